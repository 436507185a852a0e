"""The whole flow: an exact density, invertible at the depth it is used at, latents as promised."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flow_contract import check_exact_density_and_round_trips, flat
from helpers import assert_near

from flowvid.config.making import preset_config
from flowvid.flows.glow.flow import Glow
from flowvid.flows.protocol import check_image_size, sample_latents
from flowvid.training import train_state

BATCH, STEPS, WIDTH = 2, 2, 8

# (levels, image [H, W, C], coupling, context channels)
CASES = {
    "2_additive": (2, (4, 8, 3), "additive", None),
    "2_affine_context": (2, (4, 8, 3), "affine", 2),
    "3_additive_context": (3, (8, 16, 1), "additive", 2),
}


@pytest.mark.parametrize("name", CASES)
def test_exact_density_and_round_trips(name, perturbed, float64):
    levels, (height, width, channels), coupling, context_channels = CASES[name]
    flow = Glow(levels, STEPS, WIDTH, coupling).as_flow()
    rng = np.random.default_rng(0)
    x = jnp.asarray(0.2 + 0.5 * rng.normal(size=(BATCH, height, width, channels)))
    contexts = (None,) * levels
    if context_channels is not None:
        shapes = [(BATCH, height >> i, width >> i, context_channels) for i in range(levels)]
        contexts = tuple(jnp.asarray(rng.normal(size=shape)) for shape in shapes)
    initial = jax.jit(flow.init)(jax.random.key(0), x, contexts)
    initial = jax.tree.map(lambda p: jnp.asarray(np.asarray(p, np.float64)), initial)
    check_exact_density_and_round_trips(flow, initial, x, contexts, perturbed, steps=20)


@functools.cache
def initial_at_papers_depth():
    """A Glow of 4 levels x 32 steps, stored and reversible, its parameters and an input."""
    flows = [
        Glow(levels=4, steps=32, width=16, coupling="affine", reversible=reversible).as_flow()
        for reversible in (False, True)
    ]
    with jax.enable_x64(False):
        x = jnp.float32(np.random.default_rng(0).uniform(-0.5, 0.5, (2, 32, 32, 3)))
        params = jax.jit(flows[0].init)(jax.random.key(0), x, (None,) * 4)
        return flows, *jax.tree.map(np.asarray, (params, x))


def papers_depth(dtype):
    """The same in another precision: they are compiled once, in single precision."""
    flows, *arrays = initial_at_papers_depth()
    return flows, *jax.tree.map(lambda a: jnp.asarray(np.asarray(a, dtype)), arrays)


def gradients(flow, params, x):
    def loss(params):
        return -jnp.mean(flow.log_prob(params, x, (None,) * 4).log_prob) / x[0].size

    return jax.grad(loss)(params)


def test_round_trip_and_rebuilt_gradients_at_the_papers_depth():
    """In single precision, x comes back within 1e-3 of its range of 1, before and after training.

    So does the gradient from rebuilt inputs, as a whole. A single leaf may differ by more, where
    rounding moves an input of a ReLU across zero: the next test compares every leaf.
    """
    (flow, rebuilding), params, x = papers_depth(jnp.float32)
    optimiser = train_state.optimizer(preset_config("paper"), 50.0)

    @jax.jit
    def round_trip_and_train_step(params, opt_state):
        x_again = flow.decode(params, flow.encode(params, x, (None,) * 4), (None,) * 4)
        stored = gradients(flow, params, x)
        updates, opt_state = optimiser.update(stored, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, x_again, stored

    rebuilt = jax.jit(lambda params: gradients(rebuilding, params, x))
    opt_state = jax.jit(optimiser.init)(params)
    for _ in range(4):
        ours = rebuilt(params)
        params, opt_state, x_again, stored = round_trip_and_train_step(params, opt_state)
        assert x_again.dtype == jnp.float32
        np.testing.assert_allclose(x_again, x, rtol=0, atol=1e-3)
        difference = optax.tree.norm(jax.tree.map(np.subtract, ours, stored))
        assert float(difference) <= 1e-3 * float(optax.tree.norm(stored))


def test_every_rebuilt_gradient_at_the_papers_depth(float64, perturbed):
    flows, params, x = papers_depth(jnp.float64)
    compiled = [jax.jit(functools.partial(gradients, flow)) for flow in flows]
    for of_params in (params, perturbed(params, 1e-3)):
        stored, rebuilt = (gradients_of(of_params, x) for gradients_of in compiled)
        assert_near(rebuilt, stored, 1e-7)


def test_latent_shapes_are_the_papers():
    shapes = Glow(levels=4, steps=1, width=8).latent_shapes((64, 64, 3))
    assert shapes == [(32, 32, 6), (16, 16, 12), (8, 8, 24), (4, 4, 96)]
    assert Glow(levels=2, steps=1, width=8).latent_shapes((4, 8, 3)) == [(2, 4, 6), (1, 2, 24)]


def test_one_context_a_level():
    init = Glow(levels=2, steps=1, width=4).init
    x = jnp.zeros((1, 4, 4, 3))
    with pytest.raises(ValueError, match=r"shorter than argument 1"):
        jax.eval_shape(init, jax.random.key(0), x, (None,))
    with pytest.raises(ValueError, match=r"longer than argument 1"):
        jax.eval_shape(init, jax.random.key(0), x, (None, None, None))


@pytest.mark.parametrize(("height", "width", "side"), [(50, 64, "Height 50"), (64, 8, "Width 8")])
def test_sizes_that_cannot_be_halved_are_refused(height, width, side):
    with pytest.raises(ValueError, match=f"{side} must be divisible by 16, .* 4 levels"):
        check_image_size(height, width, 4)
    with pytest.raises(ValueError, match=f"{side} must be divisible by 16, .* 4 levels"):
        Glow(levels=4, steps=1, width=8).latent_shapes((height, width, 3))
    check_image_size(64, 32, 4)


def test_latents_are_drawn_per_example_and_scaled_by_temperature():
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(2, 4, 6), (1, 2, 24)]

    @jax.jit
    def draw(keys, temperature):
        return sample_latents(keys, shapes, temperature)

    drawn = draw(keys, 1.0)
    assert [z.shape for z in drawn] == [(3, 2, 4, 6), (3, 1, 2, 24)]
    for z, half, zero, alone in zip(
        drawn, draw(keys, 0.5), draw(keys, 0.0), draw(keys[1:2], 1.0), strict=True
    ):
        np.testing.assert_array_equal(zero, np.zeros(z.shape))
        np.testing.assert_allclose(half, 0.5 * z)
        np.testing.assert_array_equal(alone, z[1:2])
        assert float(jnp.abs(z[0] - z[1]).min()) > 0
    # No level repeats another's noise.
    assert np.unique(flat(drawn)).size == flat(drawn).size
