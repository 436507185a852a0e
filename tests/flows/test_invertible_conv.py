"""The invertible 1x1 convolution: its start, precision, inverse and prepared parameters."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from bijector_cases import inputs

from flowvid.flows.bijectors import invertible_conv

pytest_plugins = ["bijector_cases"]
pytestmark = pytest.mark.usefixtures("float64")


def test_invertible_conv_starts_as_a_rotation():
    x, _ = inputs("invertible_conv")
    params = invertible_conv().init(jax.random.key(3), x, None)
    y, log_det = invertible_conv().forward(params, x, None)
    np.testing.assert_allclose(jnp.linalg.norm(y, axis=-1), jnp.linalg.norm(x, axis=-1))
    np.testing.assert_allclose(log_det, [0, 0], atol=1e-12)
    assert float(jnp.abs(y - x).max()) > 0.1


def test_invertible_conv_is_in_full_precision_on_accelerators(params_of_case):
    double = inputs("invertible_conv")[0], params_of_case("invertible_conv", "initial")
    x, params = jax.tree.map(lambda a: a.astype(jnp.float32), double)
    with jax.enable_x64(False):
        for direction in (invertible_conv().forward, invertible_conv().inverse):
            walk = jax.jit(lambda params, x, walk=direction: walk(params, x, None))
            text = jax.export.export(walk, platforms=["tpu"])(params, x).mlir_module()
            products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
            assert products
            assert all("HIGHEST" in line for line in products)


def test_prepared_parameters_leave_one_product(params_of_case):
    x, _ = inputs("invertible_conv")
    params = params_of_case("invertible_conv", "noisy")

    def products(walk, params):
        return str(jax.make_jaxpr(walk)(params, x, None)).count("dot_general")

    prepared = invertible_conv().prepare(params)
    assert invertible_conv().prepare(prepared) is prepared
    for walk in (invertible_conv().forward, invertible_conv().inverse):
        assert products(walk, prepared) == 1 < products(walk, params)


@pytest.mark.parametrize("channels", [3, 5, 12, 96])
def test_invertible_conv_is_inverted_exactly(channels, perturbed):
    """Triangles are inverted by blocks of powers of two, which need not divide the channels."""
    pixels = jnp.eye(channels)[None, None]
    params = invertible_conv().init(jax.random.key(0), pixels, None)
    params = perturbed(jax.tree.map(lambda p: p.astype(jnp.float64), params), 0.3 / channels**0.5)
    both = np.asarray(params["lower_upper"])
    lower = np.tril(both, -1) + np.eye(channels)
    upper = np.triu(both, 1) + np.diag(params["constants"]["sign"] * np.exp(np.diag(both)))
    matrix = np.asarray(params["constants"]["permutation"]) @ lower @ upper
    assert abs(matrix @ matrix.T - np.eye(channels)).max() > 0.1  # no longer a rotation
    y, _ = invertible_conv().forward(params, pixels, None)
    np.testing.assert_allclose(y[0, 0].T, matrix, rtol=1e-12, atol=1e-12)
    x, _ = invertible_conv().inverse(params, pixels, None)
    np.testing.assert_allclose(x[0, 0].T, np.linalg.inv(matrix), rtol=1e-9, atol=1e-9)
