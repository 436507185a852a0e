"""Bijectors at random parameters and sizes: round trips, log-determinants, squeeze, and levels."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowvid.flows import bijectors
from flowvid.flows.bijectors import actnorm, chain, coupling, invertible_conv, repeat, squeeze
from flowvid.flows.coupling_network import CouplingNetwork
from flowvid.flows.glow.flow import Glow, flow_step
from flowvid.training.train_state import is_constant


def network(features):
    return CouplingNetwork(width=4, features=features)


BIJECTORS = {
    "actnorm": actnorm(),
    "invertible_conv": invertible_conv(),
    "squeeze": squeeze(),
    "coupling_additive": coupling(network, "additive"),
    "coupling_affine": coupling(network, "affine"),
    "chain": chain(actnorm(), coupling(network, "affine"), squeeze(), invertible_conv()),
    "repeat": repeat(flow_step(4, "affine", data_dependent=True), 2),
}
# Shapes [B, H, W, C] of x, and context channels, or None. Each compiles every bijector once.
SHAPES = {False: [((2, 2, 4, 3), None), ((1, 4, 2, 2), None)]}
SHAPES[True] = [((3, 2, 2, 4), 1), ((1, 2, 4, 3), 5)]
SEES_CONTEXT = ("coupling_additive", "coupling_affine", "repeat")

seeds = st.integers(0, 2**32 - 1)


@functools.cache
def compiled(name, shape, context_channels):
    """Returns shapes of parameters, and a function to outputs, inputs and log-determinants."""
    bijector = BIJECTORS[name]

    @jax.jit
    def both_ways(params, x, context):
        def of_first(first):
            y, _ = bijector.forward(params, x.at[0].set(first), context)
            return y[0].reshape(-1)

        y, log_det = bijector.forward(params, x, context)
        jacobian = jax.jacrev(of_first)(x[0]).reshape(x[0].size, -1)
        return y, log_det, *bijector.inverse(params, y, context), jacobian

    template = jax.eval_shape(bijector.init, jax.random.key(0), *zeros(shape, context_channels))
    return template, both_ways


def zeros(shape, context_channels):
    context = None if context_channels is None else jnp.zeros((*shape[:3], context_channels))
    return jnp.zeros(shape), context


def draw(rng, scale, template):
    """Returns parameters with standard deviation `scale`, permutations and signs."""

    def leaf(path, of):
        if not is_constant(path):
            return scale * rng.normal(size=of.shape)
        if path[-1].key == "sign":
            return rng.choice([-1.0, 1.0], of.shape)
        order = np.argsort(rng.random(of.shape[:-1]), axis=-1)
        return np.eye(of.shape[-1])[order]

    return jax.tree_util.tree_map_with_path(leaf, template)


@pytest.mark.parametrize("name", BIJECTORS)
@given(data=st.data(), seed=seeds, scale=st.floats(0, 0.3), spread=st.floats(1e-3, 2))
def test_random_parameters_are_inverted(name, data, seed, scale, spread):
    """At larger scales sigmoid(raw + 2) underflows in an affine coupling, and x is lost."""
    sees_context = name in SEES_CONTEXT and data.draw(st.booleans())
    shape, context_channels = data.draw(st.sampled_from(SHAPES[sees_context]))
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        template, both_ways = compiled(name, shape, context_channels)
        x, context = (
            None if a is None else spread * rng.normal(size=a.shape)
            for a in zeros(shape, context_channels)
        )
        params = draw(rng, scale, template)
        results = both_ways(params, x, context)
    y, log_det, x_again, inverse_log_det, jacobian = map(np.asarray, results)
    assert y.dtype == log_det.dtype == np.float64
    assert np.isfinite(y).all()
    np.testing.assert_allclose(x_again, x, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-10, atol=1e-10)
    assert log_det[0] == pytest.approx(np.linalg.slogdet(jacobian)[1], rel=1e-6, abs=1e-6)


even = st.integers(1, 5).map(lambda n: 2 * n)


@given(batch=st.integers(1, 3), height=even, width=even, channels=st.integers(1, 5), seed=seeds)
def test_squeeze_moves_every_pixel_to_its_place(batch, height, width, channels, seed):
    x = np.random.default_rng(seed).normal(size=(batch, height, width, channels))
    x = np.float32(x)
    y = np.asarray(bijectors.space_to_depth(jnp.asarray(x)))
    assert y.shape == (batch, height // 2, width // 2, 4 * channels)
    of, row, column, channel = np.indices(x.shape)
    place = channels * (2 * (row % 2) + column % 2) + channel
    np.testing.assert_array_equal(y[of, row // 2, column // 2, place], x)
    np.testing.assert_array_equal(bijectors.depth_to_space(jnp.asarray(y)), x)


@settings(max_examples=5)
@given(levels=st.integers(1, 3), height=st.integers(1, 3), width=st.integers(1, 3), data=st.data())
def test_levels_split_all_dimensions(levels, height, width, data):
    channels = data.draw(st.integers(1, 4))
    context = data.draw(st.none() | st.integers(1, 3))
    shape = height * 2**levels, width * 2**levels, channels
    flow = Glow(levels, steps=1, width=4).as_flow()
    shapes = flow.latent_shapes(shape)
    assert len(shapes) == levels
    assert sum(map(math.prod, shapes)) == math.prod(shape)

    contexts = [
        None if context is None else jnp.zeros((2, shape[0] >> i, shape[1] >> i, context))
        for i in range(levels)
    ]

    def round_trip(x):
        params = flow.init(jax.random.key(0), x, contexts)
        latents = flow.encode(params, x, contexts)
        return latents, flow.decode(params, latents, contexts)

    latents, x = jax.eval_shape(round_trip, jax.ShapeDtypeStruct((2, *shape), jnp.float32))
    assert [z.shape for z in latents] == [(2, *of) for of in shapes]
    assert x.shape == (2, *shape)


@given(levels=st.integers(1, 5), height=st.integers(1, 100), width=st.integers(1, 100))
def test_sizes_have_latents_exactly_if_all_levels_can_halve_them(levels, height, width):
    flow = Glow(levels, steps=1, width=4).as_flow()
    if height % 2**levels or width % 2**levels:
        with pytest.raises(ValueError, match=f"must be divisible by {2**levels}"):
            flow.latent_shapes((height, width, 3))
    else:
        flow.latent_shapes((height, width, 3))
