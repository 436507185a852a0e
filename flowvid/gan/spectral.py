"""Spectral normalisation (Miyato et al. 2018) as a pure function of parameters.

Flax's module runs its power iteration at each call: once per frame for the shared View-Net. Here it
runs once per step, and its vectors are part of the train state.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from flowvid.arrays import Params

# The largest singular value of a normalised kernel. A ReLU passes half of the power of its input.
# With a norm of 1 the small maps of a pyramid would contribute almost nothing, and the
# discriminator would be nearly linear and see little but the mean colour of a frame. A norm of
# sqrt(2) doubles the power, which compensates for the ReLU.
NORM = 2**0.5
INITIAL_ITERATIONS = 20  # so that the first steps are normalised, too

Vectors = dict[str, Array]  # estimates of the first right singular vectors, by the kernel's path


def _is_normalised(path: jax.tree_util.KeyPath, leaf: Array) -> bool:
    """Returns whether a leaf is a kernel that is normalised.

    Kernels whose output is the score are not: the R1 penalty bounds the score already. If they were
    normalised, the mean of the scores over all pixels would hardly depend on a pixel, the penalty
    would be almost zero, and the logits would stay near zero.
    """
    return getattr(path[-1], "key", None) == "kernel" and leaf.shape[-1] > 1


def init(params: Params) -> Vectors:
    """Returns the vectors before the first step, one per kernel, [c_out]."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    vectors = {
        jax.tree_util.keystr(path): jnp.full(leaf.shape[-1], leaf.shape[-1] ** -0.5)
        for path, leaf in leaves
        if _is_normalised(path, leaf)
    }
    return lax.fori_loop(0, INITIAL_ITERATIONS, lambda _, v: iterate(params, v), vectors)


def iterate(params: Params, vectors: Vectors) -> Vectors:
    """Runs one power iteration for each kernel, as a matrix [rows * cols * c_in, c_out]."""
    improved: Vectors = {}
    for path, kernel in jax.tree_util.tree_leaves_with_path(params):
        if _is_normalised(path, kernel):
            name, matrix = jax.tree_util.keystr(path), kernel.reshape(-1, kernel.shape[-1])
            improved[name] = _unit(matrix.T @ _unit(matrix @ vectors[name]))
    return lax.stop_gradient(improved)


def normalise(params: Params, vectors: Vectors) -> Params:
    """Returns parameters whose kernels have a largest singular value of about `NORM`."""

    def divided(path: jax.tree_util.KeyPath, leaf: Array) -> Any:
        name = jax.tree_util.keystr(path)
        if name not in vectors:
            return leaf
        matrix = leaf.reshape(-1, leaf.shape[-1])
        left = lax.stop_gradient(_unit(matrix @ vectors[name]))
        return leaf * (NORM / (left @ matrix @ vectors[name]))

    return jax.tree_util.tree_map_with_path(divided, params)


def _unit(vector: Array) -> Array:
    return vector / (jnp.linalg.norm(vector) + 1e-12)
