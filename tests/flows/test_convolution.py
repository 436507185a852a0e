"""Convolutions equal XLA's on every platform, and are lowered to products on CPU alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from flowvid.flows.convolution import Conv, conv_general_dilated

NHWC_HWIO = ("NHWC", "HWIO", "NHWC")

# (kernel size, strides, c_in, c_out, (height, width)). With a stride of 1, more than twice as many
# channels in as out run mirrored, and about as many divide the window between the two sides.
CASES = [
    ((1, 1), (1, 1), 3, 8, (6, 4)),
    ((1, 1), (1, 1), 8, 3, (6, 4)),
    ((3, 3), (1, 1), 2, 8, (6, 4)),
    ((3, 3), (1, 1), 8, 2, (6, 4)),
    ((3, 3), (1, 1), 5, 5, (2, 1)),
    ((3, 3), (1, 1), 6, 4, (6, 4)),
    ((5, 3), (1, 1), 4, 6, (4, 6)),
    ((1, 3), (1, 1), 4, 5, (4, 6)),
    ((3, 5), (1, 1), 2, 8, (4, 6)),
    ((3, 5), (1, 1), 8, 2, (4, 6)),
    ((3, 3), (2, 2), 5, 5, (6, 4)),
    ((3, 3), (2, 2), 8, 2, (7, 5)),
    ((3, 3), (1, 2), 8, 2, (5, 6)),
]
FEW_TO_MANY_AND_BACK = [((3, 3), (1, 1), 2, 8, (6, 4)), ((3, 3), (1, 1), 8, 2, (6, 4))]


def _operands(case, dtype=jnp.float32):
    size, strides, c_in, c_out, shape = case
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *shape, c_in))
    kernel = rng.normal(size=(*size, c_in, c_out))
    return strides, jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)


def _convolve(conv, strides, x, kernel):
    return conv(x, kernel, strides, "SAME", dimension_numbers=NHWC_HWIO)


def _assert_close(actual, expected, tolerance=1e-5):
    def check(a, b):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())

    jax.tree.map(check, actual, expected)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _value_and_gradients(conv, strides, x, kernel):
    y, vjp = jax.vjp(functools.partial(_convolve, conv, strides), x, kernel)
    dy = jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype)
    return y, vjp(dy)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_equal_xla(case):
    _assert_close(
        _value_and_gradients(conv_general_dilated, *_operands(case)),
        _value_and_gradients(lax.conv_general_dilated, *_operands(case)),
    )


@pytest.mark.parametrize("case", FEW_TO_MANY_AND_BACK, ids=str)
def test_bfloat16(case):
    _assert_close(
        _value_and_gradients(conv_general_dilated, *_operands(case, jnp.bfloat16)),
        _value_and_gradients(lax.conv_general_dilated, *_operands(case, jnp.bfloat16)),
        tolerance=0.03,  # bfloat16 keeps 8 bits; the nine shifted terms are rounded one by one.
    )


@pytest.mark.parametrize("case", FEW_TO_MANY_AND_BACK, ids=str)
def test_vmap_over_images_and_over_kernels(case):
    strides, x, kernel = _operands(case)

    def mapped(conv):
        per_model = functools.partial(_value_and_gradients, conv, strides)
        return (
            jax.vmap(per_model)(jnp.stack([x, 2 * x]), jnp.stack([kernel, kernel + 1])),
            jax.vmap(per_model, in_axes=(None, 0))(x, jnp.stack([kernel, kernel + 1])),
        )

    _assert_close(mapped(conv_general_dilated), mapped(lax.conv_general_dilated))


def test_pmap_with_gradients_averaged_over_devices():
    strides, x, kernel = _operands(CASES[2])
    shards = jnp.stack([x + i for i in range(jax.local_device_count())])

    def step(conv, x, kernel):
        _, gradients = _value_and_gradients(conv, strides, x, kernel)
        return lax.pmean(gradients, "device")

    def stepped(conv):
        step_of = functools.partial(step, conv)
        return jax.pmap(step_of, axis_name="device", in_axes=(0, None))(shards, kernel)

    _assert_close(stepped(conv_general_dilated), stepped(lax.conv_general_dilated))


def _scanned(conv, x, expand, contract):
    """Scan residual blocks, each of few channels to many and back; sum the squares."""

    def block(x, kernels):
        hidden = _convolve(conv, (1, 1), x, kernels[0])
        return x + _convolve(conv, (1, 1), hidden, kernels[1]), None

    return jnp.sum(lax.scan(block, x, (expand, contract))[0] ** 2)


def _scan_operands():
    _, x, expand = _operands(CASES[2])
    _, _, contract = _operands(CASES[3])
    return x, jnp.stack([expand, -expand, expand]) / 10, jnp.stack([contract] * 3) / 10


def test_gradients_of_a_scan_equal_xla():
    gradients = [
        jax.jit(jax.grad(functools.partial(_scanned, conv), argnums=(0, 1, 2)))(*_scan_operands())
        for conv in (conv_general_dilated, lax.conv_general_dilated)
    ]
    _assert_close(*gradients)


def test_scan_stores_inputs_and_kernels_but_no_patches():
    x, expand, contract = _scan_operands()
    _, vjp = jax.vjp(functools.partial(_scanned, conv_general_dilated), x, expand, contract)
    stored = {leaf.shape for leaf in jax.tree.leaves(vjp)}
    hidden = (*x.shape[:3], expand.shape[-1])
    inputs = {(3, *x.shape), (3, *hidden)}
    kernels = {expand.shape, contract.shape}
    last_state = {x.shape}  # For the gradient of the sum of squares.
    assert inputs <= stored <= inputs | kernels | last_state


@pytest.mark.parametrize(
    ("platform", "has_convolution"), [("cpu", False), ("cuda", True), ("tpu", True)]
)
def test_each_platform_gets_its_lowering(platform, has_convolution):
    gradients = jax.jit(
        jax.grad(functools.partial(_scanned, conv_general_dilated), argnums=(0, 1, 2))
    )
    text = jax.export.export(gradients, platforms=[platform])(*_scan_operands()).mlir_module()
    assert ("stablehlo.convolution" in text) == has_convolution
    assert ("stablehlo.dot_general" in text) != has_convolution


def test_conv_module_is_flax_conv():
    x = _operands(CASES[2])[1]
    module = Conv(features=5, kernel_size=(3, 3), strides=2)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    kernel, bias = jnp.ones(shapes["kernel"].shape), jnp.arange(5.0)
    y = module.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    _assert_close(
        y, _convolve(lax.conv_general_dilated, (2, 2), x, kernel) + bias[None, None, None]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 3}, r"images of 3 and a kernel of 3 dimensions, not 4"),
        ({"kernel_size": (2, 3)}, r"a kernel of 2x3 pixels"),
        ({"padding": "VALID"}, r"padding='VALID'"),
        ({"padding": 1}, r"padding=\[\(1, 1\), \(1, 1\)\]"),
        ({"kernel_dilation": 2}, r"lhs_dilation=\(1, 1\), rhs_dilation=\(2, 2\)"),
        ({"input_dilation": 2}, r"lhs_dilation=\(2, 2\), rhs_dilation=\(1, 1\)"),
        ({"feature_group_count": 2}, r"feature_group_count=2"),
    ],
    ids=str,
)
def test_errors_of_unsupported_options_name_what_is_supported(options, message):
    module = Conv(**({"features": 8, "kernel_size": (3, 3)} | options))
    with pytest.raises(ValueError, match=rf"{message}\. Use NHWC images, an HWIO kernel"):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((2, 4, 4, 2)))


def test_other_layouts_are_refused():
    with pytest.raises(ValueError, match="dimension_numbers=None"):
        conv_general_dilated(jnp.zeros((1, 2, 4, 4)), jnp.zeros((3, 2, 3, 3)), (1, 1), "SAME")
