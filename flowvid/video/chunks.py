"""Processes examples in chunks, so that memory does not grow with the number of examples."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PyTree


def _count_and_size(examples: int, at_most: int) -> tuple[int, int]:
    """Returns the smallest number of chunks of at most that size, and their even size."""
    count = math.ceil(examples / at_most)
    return count, math.ceil(examples / count)


def _number(arrays: PyTree) -> int:
    return int(jax.tree.leaves(arrays)[0].shape[0])


def _split(arrays: PyTree, at_most: int) -> PyTree:
    """Reshapes [N, ...] to [chunks, size, ...], padding with copies of the last example."""
    examples = _number(arrays)
    count, size = _count_and_size(examples, at_most)

    def split(x: Array) -> Array:
        filled = jnp.pad(x, ((0, count * size - examples), *((0, 0),) * (x.ndim - 1)), mode="edge")
        return filled.reshape(count, size, *x.shape[1:])

    return jax.tree.map(split, arrays)


def each(f: Callable[[Any], Any], arrays: PyTree, at_most: int) -> PyTree:
    """Returns f(arrays), where f treats every example alone, for at most `at_most` at once.

    `lax.map(batch_size=...)` would vectorise an f of a single example, so that kernels that are
    written for batches would not be used, and would compile f once more for the remainder.
    """
    examples = _number(arrays)
    if examples <= at_most:
        return f(arrays)
    outputs = lax.map(f, _split(arrays, at_most))
    return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:])[:examples], outputs)


def mean(
    f: Callable[[Any, Any], tuple[Any, Any]], params: PyTree, arrays: PyTree, at_most: int
) -> tuple[Float[Array, ""], PyTree]:
    """Returns the means of the outputs of f, computed for at most `at_most` examples at a time.

    The gradients of a chunk are computed together with its values. This is possible because the
    gradient of a mean depends on later computations only through one factor. The activations of a
    chunk are freed before the next chunk, and nothing is computed twice. The gradients equal those
    of the mean over all examples at once, up to rounding.

    Args:
        f: a function (params, arrays) -> (values [n], a tree of further values [n]) that treats the
            n examples independently.
        params: parameters that all examples share.
        arrays: a tree of arrays [N, ...].
        at_most: largest size of a chunk.

    Returns:
        The mean of the values, which can be differentiated with respect to params and arrays, and
        the means of the further values, which have no gradients.
    """
    examples = _number(arrays)
    if examples <= at_most:
        values, more = f(params, arrays)
        return jnp.mean(values), jax.tree.map(lambda x: lax.stop_gradient(jnp.mean(x)), more)
    count, size = _count_and_size(examples, at_most)
    weights = np.float32(np.arange(count * size) < examples).reshape(count, size) / examples

    def weighted(params: PyTree, chunk: PyTree, weight: Array) -> tuple[Array, PyTree]:
        values, more = f(params, chunk)
        return jnp.vdot(values, weight), jax.tree.map(lambda x: jnp.vdot(x, weight), more)

    return _weighted_mean(weighted, params, _split(arrays, at_most), jnp.asarray(weights))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _weighted_mean(f: Callable, params: PyTree, chunks: PyTree, weights: Array) -> Any:
    def body(total: Any, chunk: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, f(params, *chunk)), None

    zeros = _zeros(f, params, chunks, weights)
    return lax.scan(body, zeros, (chunks, weights))[0]


def _zeros(f: Callable, params: PyTree, chunks: PyTree, weights: Array) -> Any:
    first = jax.tree.map(lambda x: x[0], (chunks, weights))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(f, params, *first))


def _weighted_mean_fwd(f: Callable, params: PyTree, chunks: PyTree, weights: Array) -> Any:
    leaves, structure = jax.tree.flatten(chunks)
    has_gradient = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]

    def of_leaves(params: PyTree, floats: list[Array], others: list[Array], weight: Array) -> Any:
        from_floats, from_others = iter(floats), iter(others)
        parts = [next(from_floats) if is_float else next(from_others) for is_float in has_gradient]
        return f(params, jax.tree.unflatten(structure, parts), weight)

    gradients_of = jax.value_and_grad(of_leaves, argnums=(0, 1), has_aux=True)
    floats, others = (
        [leaf for leaf, is_float in zip(leaves, has_gradient, strict=True) if is_float == wanted]
        for wanted in (True, False)
    )

    def body(carry: Any, chunk: Any) -> tuple[Any, PyTree]:
        total, dparams = carry
        value, (dparams_of_chunk, dfloats) = gradients_of(params, *chunk)
        return jax.tree.map(jnp.add, (total, dparams), (value, dparams_of_chunk)), dfloats

    zeros = (_zeros(f, params, chunks, weights), jax.tree.map(jnp.zeros_like, params))
    (total, dparams), dfloats = lax.scan(body, zeros, (floats, others, weights))
    of_floats = iter(dfloats)
    # Whole numbers, such as labels, stand for themselves: the backward pass tells them by type.
    dleaves = [
        next(of_floats) if is_float else leaf
        for leaf, is_float in zip(leaves, has_gradient, strict=True)
    ]
    return total, (dparams, jax.tree.unflatten(structure, dleaves), weights)


def _weighted_mean_bwd(f: Callable, gradients: Any, cotangents: Any) -> Any:
    dparams, dchunks, weights = gradients

    def scaled(g: Array) -> Any:
        if jnp.issubdtype(g.dtype, jnp.inexact):
            return g * cotangents[0]
        return np.zeros(g.shape, jax.dtypes.float0)

    return (*jax.tree.map(scaled, (dparams, dchunks)), jnp.zeros_like(weights))


_weighted_mean.defvjp(_weighted_mean_fwd, _weighted_mean_bwd)
