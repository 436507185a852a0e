"""Spectral normalisation (Miyato et al. 2018) as a pure function of parameters.

Flax's module would run its power iteration at each use, at each frame of the shared View-Net; here
it runs once a step, and its vectors are a part of the train state.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from flowvid.arrays import Params

# The largest singular value of a kernel. A ReLU lets half of the power it is given pass: with a
# norm of one next to nothing comes back from a pyramid's small maps, and the discriminator, nearly
# linear, sees little but a frame's mean colour; twice the power makes up for that.
NORM = 2**0.5
SETTLED = 20  # iterations at the start, so that the first steps are normalised, too

Vectors = dict[str, Array]  # by the kernel's path: a guess of its first right singular vector


def _is_normalised(path: jax.tree_util.KeyPath, leaf: Array) -> bool:
    """Kernels, but for those that end in the score: how sure it may be, R1 keeps within bounds.

    With them normalised, too, the mean of a score over all pixels moves by so little that the
    penalty, its squared gradient, is next to nothing, and the logits stay near zero.
    """
    return getattr(path[-1], "key", None) == "kernel" and leaf.shape[-1] > 1


def init(params: Params) -> Vectors:
    """The vectors before the first step, one a kernel, [c_out]."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    vectors = {
        jax.tree_util.keystr(path): jnp.full(leaf.shape[-1], leaf.shape[-1] ** -0.5)
        for path, leaf in leaves
        if _is_normalised(path, leaf)
    }
    return lax.fori_loop(0, SETTLED, lambda _, moved: iterate(params, moved), vectors)


def iterate(params: Params, vectors: Vectors) -> Vectors:
    """One power iteration of each kernel, as a matrix [rows * cols * c_in, c_out]."""
    moved: Vectors = {}
    for path, kernel in jax.tree_util.tree_leaves_with_path(params):
        if _is_normalised(path, kernel):
            name, matrix = jax.tree_util.keystr(path), kernel.reshape(-1, kernel.shape[-1])
            moved[name] = _unit(matrix.T @ _unit(matrix @ vectors[name]))
    return lax.stop_gradient(moved)


def normalise(params: Params, vectors: Vectors) -> Params:
    """Parameters whose kernels have a largest singular value of about `NORM`."""

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
