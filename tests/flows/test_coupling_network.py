"""The coupling network's own backward pass and its half precision, against plain JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_near, relative_distance
from jax import lax

from flowvid.flows import convolution, coupling_network
from flowvid.flows.bijectors import repeat
from flowvid.flows.coupling_network import CouplingNetwork, three_layers
from flowvid.flows.glow.flow import flow_step

# (c_in, width, c_out): below, what is kept for the backward pass; c_in * 72 <= width is cheap.
KEPT, RECOMPUTED = (3, 8, 4), (1, 72, 2)
IMAGE = (2, 4, 6)  # batch, height, width


def operands(sizes):
    c_in, width, c_out = sizes
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    layers = coupling_network._Layers(
        (normal(3, 3, c_in, width) / 5, normal(width)),
        (normal(1, 1, width, width) / width**0.5, normal(width)),
        (normal(3, 3, c_out, width) / 5, normal(c_out)),  # mirrored
    )
    return layers, normal(*IMAGE, c_in), normal(*IMAGE, c_out)


def plain(layers, x):
    """The same network without a rule of its own, as XLA convolves."""
    kernel, bias = layers.last
    layers = layers._replace(last=(jnp.flip(kernel, (0, 1)).swapaxes(2, 3), bias))
    for i, (kernel, bias) in enumerate(layers):
        layout = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
        x = x + bias[None, None, None]
        x = x if i == 2 else jax.nn.relu(x)
    return x


@pytest.mark.parametrize("lowering", ["PRODUCTS", "XLA"])
@pytest.mark.parametrize("sizes", [KEPT, RECOMPUTED], ids=["kept", "recomputed"])
def test_three_layers_are_those_of_plain_autodiff(sizes, lowering, monkeypatch):
    monkeypatch.setattr(convolution, "PRODUCTS", getattr(convolution, lowering))  # what CPUs take
    layers, x, dy = operands(sizes)

    def value_and_gradients(network):
        def run(layers, x, dy):
            y, vjp = jax.vjp(network, layers, x)
            return y, vjp(dy)

        return jax.jit(run)(layers, x, dy)

    assert coupling_network._first_is_cheap(layers) == (sizes == RECOMPUTED)
    found, expected = value_and_gradients(three_layers), value_and_gradients(plain)
    assert_near(found, expected, 1e-5)
    assert all(np.any(gradient) for gradient in jax.tree.leaves(found[1]))


@pytest.mark.parametrize(("sizes", "activations"), [(KEPT, 2), (RECOMPUTED, 1)])
def test_no_more_activations_are_kept_than_have_to_be(sizes, activations):
    layers, x, _ = operands(sizes)
    kept = [leaf.shape for leaf in jax.tree.leaves(jax.vjp(three_layers, layers, x)[1])]
    assert kept.count((*IMAGE, sizes[1])) == activations
    # Besides these the input and the layers; no masks, no patches.
    assert len(kept) == activations + 1 + 6


@pytest.fixture(scope="module")
def network(perturbed):
    """(parameters, input [2, 4, 6, 3]) of networks of width 8 and 4 features."""
    x = operands(KEPT)[1]
    params = CouplingNetwork(8, 4).init(jax.random.key(0), x)
    return jax.tree.map(jnp.float32, perturbed(params, 0.3)), x


def test_bfloat16_stays_inside_the_network(network):
    params, x = network
    rough, exact = CouplingNetwork(8, 4, jnp.bfloat16), CouplingNetwork(8, 4)
    assert jax.eval_shape(rough.init, jax.random.key(0), x) == jax.eval_shape(lambda: params)

    def value_and_gradients(network):
        def loss(params, x):
            y = network.apply(params, x)
            return jnp.sum(jnp.sin(y)), y

        gradients, y = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, x)
        return y, *gradients

    found, expected = value_and_gradients(rough), value_and_gradients(exact)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype == jnp.float32
        assert 1e-4 < relative_distance(a, b) < 0.03  # bfloat16 keeps 8 bits


def flow_and_inputs(kind, n, perturbed):
    """(a function from type and `reversible` to n steps of flow, parameters, x, context)."""

    def make(dtype, reversible=False):
        return repeat(flow_step(16, kind, True, dtype), n, reversible)

    rng = np.random.default_rng(1)
    x, context = (jnp.float32(rng.normal(size=(4, 8, 8, channels))) for channels in (12, 3))
    params = perturbed(jax.jit(make(None).init)(jax.random.key(0), x, context))
    return make, jax.tree.map(jnp.float32, params), x, context


@pytest.mark.parametrize("kind", ["additive", "affine"])
def test_a_step_in_bfloat16_is_inverted_as_well_as_one_in_float32(kind, perturbed):
    """Forward and inverse, compiled apart, round the same network in the same way."""
    make, params, x, context = flow_and_inputs(kind, 1, perturbed)
    outputs = []
    for dtype in (None, jnp.bfloat16):
        y, log_det = jax.jit(make(dtype).forward)(params, x, context)
        x_again, inverse_log_det = jax.jit(make(dtype).inverse)(params, y, context)
        assert x_again.dtype == y.dtype == log_det.dtype == inverse_log_det.dtype == jnp.float32
        np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(x_again, x, rtol=1e-5, atol=1e-5)
        outputs.append(y)
    assert 1e-4 < relative_distance(*outputs) < 0.01


def test_more_steps_in_bfloat16_are_inverted_to_the_rounding_of_bfloat16(perturbed):
    """Not to float32's: what a network sees again differs in the last bits, and some are flipped.

    A number that lies between two of bfloat16's is then rounded to the other one.
    """
    make, params, x, context = flow_and_inputs("affine", 4, perturbed)
    y, _ = jax.jit(make(jnp.bfloat16).forward)(params, x, context)
    x_again, _ = jax.jit(make(jnp.bfloat16).inverse)(params, y, context)
    assert relative_distance(x_again, x) < 1e-3
    assert float(jnp.abs(x_again - x).max()) < 0.05


def test_rebuilt_gradients_in_bfloat16_are_as_good_as_stored_ones(perturbed):
    make, *arguments = flow_and_inputs("affine", 4, perturbed)

    def gradients(flow):
        def loss(params, x, context):
            y, log_det = flow.forward(params, x, context)
            return jnp.mean(jnp.sum(y**2, (1, 2, 3)) / 2 - log_det)

        flat = jax.tree.leaves(jax.jit(jax.grad(loss, (0, 1, 2)))(*arguments))
        assert all(gradient.dtype == jnp.float32 for gradient in flat)
        return flat

    exact, stored, rebuilt = map(
        gradients, (make(None), make(jnp.bfloat16), make(jnp.bfloat16, reversible=True))
    )

    def error(rough):
        return max(map(relative_distance, rough, exact))

    assert 1e-3 < error(stored) < 0.1
    assert error(rebuilt) < 1.5 * error(stored)
