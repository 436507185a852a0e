"""ActNorm, squeeze and coupling: initial values, layouts, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bijector_cases import BATCH, CASES, HEIGHT, WIDTH, inputs, network

from flowvid.flows import bijectors
from flowvid.flows.bijectors import actnorm, coupling

pytest_plugins = ["bijector_cases"]
pytestmark = pytest.mark.usefixtures("float64")


def test_actnorm_normalises_its_first_batch():
    x, _ = inputs("actnorm")
    y, log_det = actnorm().forward(actnorm().init(jax.random.key(0), x, None), x, None)
    np.testing.assert_allclose(jnp.mean(y, (0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(jnp.std(y, (0, 1, 2)), 1, rtol=1e-12)
    expected = -HEIGHT * WIDTH * jnp.sum(jnp.log(jnp.std(x, (0, 1, 2))))
    np.testing.assert_allclose(log_det, [expected] * BATCH)


def test_actnorm_starts_as_the_identity_where_nothing_varies():
    x = inputs("actnorm")[0].at[..., 1].set(0.25)
    params = actnorm().init(jax.random.key(0), x, None)
    y, _ = actnorm().forward(params, x, None)
    np.testing.assert_array_equal(y[..., 1], x[..., 1])
    np.testing.assert_allclose(jnp.std(y[..., 0]), 1)
    assert all(bool(jnp.all(jnp.isfinite(p))) for p in params.values())

    identity = actnorm(data_dependent=False)
    y, log_det = identity.forward(identity.init(jax.random.key(0), x, None), x, None)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(log_det, [0, 0])


def test_squeeze_keeps_each_2x2_block_at_one_position():
    x = np.arange(BATCH * 4 * 6 * 3.0).reshape(BATCH, 4, 6, 3)
    y = bijectors.space_to_depth(jnp.asarray(x))
    assert y.shape == (BATCH, 2, 3, 12)
    for row in range(2):
        for col in range(2):
            first = 3 * (2 * row + col)
            np.testing.assert_array_equal(y[..., first : first + 3], x[:, row::2, col::2])
    np.testing.assert_array_equal(bijectors.depth_to_space(y), x)


@pytest.mark.parametrize(("height", "width"), [(3, 4), (4, 5)])
def test_odd_sizes_cannot_be_squeezed(height, width):
    with pytest.raises(ValueError, match=f"Height {height} and width {width} must both"):
        bijectors.space_to_depth(jnp.zeros((1, height, width, 3)))


def test_six_channels_cannot_be_unsqueezed():
    with pytest.raises(ValueError, match="channels, 6, must be divisible by 4"):
        bijectors.depth_to_space(jnp.zeros((1, 2, 2, 6)))


def test_affine_log_dets_follow_their_examples(params_of_case):
    x, context = inputs("coupling_affine_context")
    forward = CASES["coupling_affine_context"].bijector.forward
    params = params_of_case("coupling_affine_context", "noisy")
    log_det = forward(params, x, context)[1]
    assert abs(log_det[0] - log_det[1]) > 1e-3
    np.testing.assert_allclose(forward(params, x[::-1], context[::-1])[1], log_det[::-1])


def test_one_channel_cannot_be_coupled():
    with pytest.raises(ValueError, match="at least 2 channels to split, not 1"):
        coupling(network, "affine").init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)), None)


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="'additive' or 'affine', not 'afine'"):
        coupling(network, "afine")
