"""The one place where the lowering of a convolution is chosen: products on CPU, else XLA's own.

XLA's CPU convolution is several times slower than the same arithmetic as matrix products, and in a
`lax.scan` it falls to a loop on a single thread. `Conv` is `flax.linen.Conv` with the lowering
below; everything in flowvid convolves through it.

On CPU every convolution is built from one linear map, `_patches` (im2col), and 2-D products:

    y  = patches(x) K          dx = patches^T(dy K^T)          dK = patches(x)^T dy

with K the kernel as a [rows * cols * c_in, c_out] matrix. Patches are kernel-size times larger than
their array, so they are taken on the side with fewer channels: a stride-1 convolution is also
the input gradient of its mirror image (kernel flipped in space, channels swapped), and a
convolution of many channels to few runs as that.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

Images = Float[Array, "batch height width c_in"]
OutImages = Float[Array, "batch out_height out_width c_out"]
Kernel = Float[Array, "rows cols c_in c_out"]
EitherKernel = Float[Array, "rows cols c_a c_b"]  # a kernel, or its mirror image

_NHWC_HWIO = ("NHWC", "HWIO", "NHWC")


class Window(NamedTuple):
    """The static part of a convolution: kernel size, strides, and the precision of products.

    With `mirrored` the kernel is given as its mirror image, [rows, cols, c_out, c_in], flipped in
    space. That is the form that a stride-1 convolution of many channels to few has its products in,
    without a copy of the kernel in another layout.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...] = (1, 1)
    precision: lax.PrecisionLike = None
    mirrored: bool = False


def conv_general_dilated(
    lhs: Float[Array, "batch *space c_in"],
    rhs: Float[Array, "*window c_in_per_group c_out"],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: lax.ConvGeneralDilatedDimensionNumbers = None,
    feature_group_count: int = 1,
    precision: lax.PrecisionLike = None,
) -> OutImages:
    """Convolves images, as `lax.conv_general_dilated` does, with a lowering per platform.

    It takes what `flax.linen.Conv` passes and gives what `lax.conv_general_dilated` gives. It
    differentiates in reverse mode only, and keeps `lhs` and `rhs` alone for the backward pass.

    Args:
        lhs: images, [batch, height, width, c_in].
        rhs: kernel, [rows, cols, c_in, c_out], rows and cols odd.
        window_strides: strides of rows and of columns, in pixels.
        padding: "SAME".
        lhs_dilation: None or ones.
        rhs_dilation: None or ones.
        dimension_numbers: ("NHWC", "HWIO", "NHWC") in any form that `lax` knows.
        feature_group_count: 1.
        precision: of the products, as in `lax.dot_general`.

    Raises:
        ValueError: if it is asked for any other kind of convolution.
    """
    if lhs.ndim != 4 or rhs.ndim != 4:
        raise _unsupported(f"images of {lhs.ndim} and a kernel of {rhs.ndim} dimensions, not 4")
    layout, nhwc_hwio = (
        lax.conv_dimension_numbers(lhs.shape, rhs.shape, numbers)
        for numbers in (dimension_numbers, _NHWC_HWIO)
    )
    if layout != nhwc_hwio:
        raise _unsupported(f"dimension_numbers={dimension_numbers}")
    if padding != "SAME":
        raise _unsupported(f"padding={padding!r}")
    if any(size % 2 == 0 for size in rhs.shape[:2]):
        raise _unsupported(f"a kernel of {rhs.shape[0]}x{rhs.shape[1]} pixels")
    if any(dilation != 1 for dilation in (*(lhs_dilation or ()), *(rhs_dilation or ()))):
        raise _unsupported(f"lhs_dilation={lhs_dilation}, rhs_dilation={rhs_dilation}")
    if feature_group_count != 1:
        raise _unsupported(f"feature_group_count={feature_group_count}")
    return _conv(Window(rhs.shape[:2], tuple(window_strides), precision), lhs, rhs)


def _unsupported(what: str) -> ValueError:
    return ValueError(
        f"A convolution got {what}. Give it NHWC images, an HWIO kernel with both sizes odd (as in "
        "kernel_size=(3, 3)), 'SAME' padding, no dilation and no groups; for anything else use "
        "flax.linen.Conv, which is slow on CPU."
    )


Conv = functools.partial(nn.Conv, conv_general_dilated=conv_general_dilated)


# The custom VJP keeps the choice of platform out of differentiation: JAX would otherwise store
# the CPU branch's patches as residuals on every platform, once per iteration under a scan.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(window: Window, x: Images, kernel: Kernel) -> OutImages:
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_cpu_conv, window),
        default=functools.partial(_xla_conv, window),
    )


def _conv_fwd(window: Window, x: Images, kernel: Kernel) -> tuple[OutImages, tuple[Images, Kernel]]:
    return _conv(window, x, kernel), (x, kernel)


def _conv_bwd(
    window: Window, residuals: tuple[Images, Kernel], dy: OutImages
) -> tuple[Images, Kernel]:
    return lax.platform_dependent(
        *residuals,
        dy,
        cpu=functools.partial(_cpu_gradients, window),
        default=functools.partial(_xla_gradients, window),
    )


_conv.defvjp(_conv_fwd, _conv_bwd)


def _xla_conv(window: Window, x: Images, kernel: EitherKernel) -> OutImages:
    return lax.conv_general_dilated(
        x,
        _mirror(kernel) if window.mirrored else kernel,
        window.strides,
        "SAME",
        dimension_numbers=_NHWC_HWIO,
        precision=window.precision,
    )


def _xla_gradients(
    window: Window, x: Images, kernel: EitherKernel, dy: OutImages
) -> tuple[Images, EitherKernel]:
    return jax.vjp(functools.partial(_xla_conv, window), x, kernel)[1](dy)


def _cpu_conv(window: Window, x: Images, kernel: EitherKernel) -> OutImages:
    if window.mirrored:
        return _input_gradient(window, x, kernel, x.shape[:3] + kernel.shape[2:3])
    if _runs_mirrored(window, kernel):
        return _cpu_conv(window._replace(mirrored=True), x, _mirror(kernel))
    return _forward(window, x, kernel)


def _cpu_gradients(
    window: Window, x: Images, kernel: EitherKernel, dy: OutImages
) -> tuple[Images, EitherKernel]:
    if window.mirrored:
        return _forward(window, dy, kernel), _kernel_gradient(window, dy, x)
    if _runs_mirrored(window, kernel):
        mirrored = window._replace(mirrored=True)
        dx, dkernel = _cpu_gradients(mirrored, x, _mirror(kernel), dy)
        return dx, _mirror(dkernel)
    return _input_gradient(window, dy, kernel, x.shape), _kernel_gradient(window, x, dy)


class Lowering(NamedTuple):
    """A way to convolve: conv(window, x, kernel), and gradients(window, x, kernel, dy) of both.

    For code that chooses by platform on its own, as it has to around a custom VJP.
    """

    conv: Callable[[Window, Any, Any], Any]
    gradients: Callable[[Window, Any, Any, Any], Any]


PRODUCTS = Lowering(_cpu_conv, _cpu_gradients)
XLA = Lowering(_xla_conv, _xla_gradients)


def _runs_mirrored(window: Window, kernel: Kernel) -> bool:
    # Strided patches are smaller by the strides, and a strided convolution has no mirror image.
    return window.strides == (1, 1) and kernel.shape[2] > kernel.shape[3]


def _mirror(kernel: Kernel) -> Float[Array, "rows cols c_out c_in"]:
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _forward(window: Window, x: Images, kernel: Kernel) -> OutImages:
    patches = _patches(window, x)
    y = jnp.dot(_matrix(patches), _matrix(kernel), precision=window.precision)
    return y.reshape(*patches.shape[:3], -1)


def _input_gradient(
    window: Window, dy: OutImages, kernel: Kernel, shape: tuple[int, ...]
) -> Images:
    dpatches = jnp.dot(_matrix(dy), _matrix(kernel).T, precision=window.precision)
    patches_of = functools.partial(_patches, window)
    transposed = jax.linear_transpose(patches_of, jax.ShapeDtypeStruct(shape, dy.dtype))
    return transposed(dpatches.reshape(*dy.shape[:3], -1))[0]


def _kernel_gradient(window: Window, x: Images, dy: OutImages) -> Kernel:
    patches = _matrix(_patches(window, x))
    dkernel = jnp.dot(patches.T, _matrix(dy), precision=window.precision)
    return dkernel.reshape(*window.size, x.shape[-1], dy.shape[-1])


def _matrix(array: Float[Array, "*rows cols"]) -> Float[Array, "all_rows cols"]:
    # Products of 2-D operands: XLA's CPU products of higher rank are slower.
    return array.reshape(-1, array.shape[-1])


def _patches(window: Window, x: Images) -> Float[Array, "batch out_height out_width patch"]:
    """Concatenates, on the channels of each output pixel, the pixels under the window (im2col)."""
    pads = lax.padtype_to_pads(x.shape[1:3], window.size, window.strides, "SAME")
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    (height, width), (row_stride, col_stride) = x.shape[1:3], window.strides
    return jnp.concatenate(
        [
            padded[:, row : row + height : row_stride, col : col + width : col_stride]
            for row in range(window.size[0])
            for col in range(window.size[1])
        ],
        axis=-1,
    )
