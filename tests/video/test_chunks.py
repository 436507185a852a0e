"""Work in chunks: the values, gradients and memory of one pass over all, but for rounding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_near

from flowvid.video import chunks

EXAMPLES = 7
every_size = pytest.mark.parametrize("at_most", [1, 3, 7, 10])


@pytest.fixture(scope="module")
def arguments():
    """(params, arrays [7, ...]), one of the arrays left out, as a tail without context does."""
    rng = np.random.default_rng(0)
    params = {"weights": rng.normal(size=(3, 4)), "bias": rng.normal(size=(1, 1, 4))}
    arrays = (rng.normal(size=(EXAMPLES, 2, 3)), None, rng.normal(size=(EXAMPLES, 4)))
    return jax.tree.map(jnp.float32, (params, arrays))


def layer(params, arrays):
    x, _, shift = arrays
    return jnp.tanh(x @ params["weights"] + params["bias"]) * shift[:, None]


def values_and_more(params, arrays):
    y = layer(params, arrays)
    return jnp.sum(y**2, axis=(1, 2)), {"sum": jnp.sum(y, axis=(1, 2)), "first": y[:, 0, 0]}


def mean_of_all(params, arrays):
    return jax.tree.map(jnp.mean, values_and_more(params, arrays))


def sizes_seen(at_most, work):
    """How many examples `work(f, at_most)` shows to f at once."""
    seen = set()

    def watched(*arguments):
        seen.add(len(arguments[-1][0]))
        return values_and_more(*arguments)

    work(watched, at_most)
    return seen


@every_size
def test_each_is_all_at_once(at_most, arguments):
    params, arrays = arguments

    def each(params, arrays):
        return chunks.each(functools.partial(layer, params), arrays, at_most)

    np.testing.assert_allclose(
        jax.jit(each)(params, arrays), layer(params, arrays), rtol=1e-5, atol=1e-6
    )
    gradients, expected = (
        jax.jit(jax.grad(lambda *args, f=f: jnp.sum(f(*args) ** 3), argnums=(0, 1)))(*arguments)
        for f in (each, layer)
    )
    assert_near(gradients, expected, 1e-5)


@every_size
def test_mean_is_that_of_all_at_once(at_most, arguments):
    def chunked(params, arrays):
        return chunks.mean(values_and_more, params, arrays, at_most)

    assert_near(jax.jit(chunked)(*arguments), mean_of_all(*arguments), 1e-5)
    # 3: the loss may be scaled behind it.
    (value, more), gradients = jax.jit(
        jax.value_and_grad(
            lambda *args: jax.tree.map(lambda x: 3 * x, chunked(*args)), (0, 1), has_aux=True
        )
    )(*arguments)
    assert_near((value / 3, jax.tree.map(lambda x: x / 3, more)), mean_of_all(*arguments), 1e-5)
    expected = jax.grad(lambda *args: 3 * mean_of_all(*args)[0], (0, 1))(*arguments)
    assert_near(gradients, expected, 1e-5)


@every_size
def test_what_mean_tells_besides_has_no_gradient(at_most, arguments):
    def besides(params, arrays):
        return sum(chunks.mean(values_and_more, params, arrays, at_most)[1].values())

    for gradient in jax.tree.leaves(jax.jit(jax.grad(besides, (0, 1)))(*arguments)):
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


@pytest.mark.parametrize(("at_most", "size"), [(1, 1), (3, 3), (6, 4), (7, 7), (10, 7)])
def test_chunks_are_few_and_even(at_most, size, arguments):
    params, arrays = arguments
    assert sizes_seen(at_most, lambda f, n: chunks.mean(f, params, arrays, n)) == {size}
    each = lambda f, n: chunks.each(functools.partial(f, params), arrays, n)  # noqa: E731
    assert sizes_seen(at_most, each) == {size}


@every_size
def test_whole_numbers_choose_and_have_no_gradient(at_most, arguments):
    """Such as labels, beside arrays that have one."""
    params, (x, _, _) = arguments
    which = jnp.arange(EXAMPLES) % 3

    def chosen(params, arrays):
        x, which = arrays
        values = jnp.sum(x, axis=(1, 2)) * jnp.sum(params["weights"][which], axis=1)
        return values, values

    def chunked(params, x):
        return chunks.mean(chosen, params, (x, which), at_most)[0]

    def at_once(params, x):
        return jnp.mean(chosen(params, (x, which))[0])

    found, expected = (jax.jit(jax.grad(f, (0, 1)))(params, x) for f in (chunked, at_once))
    assert_near(found, expected, 1e-5)
