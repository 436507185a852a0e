"""Convolutions that are lowered to matrix products on CPU, and to XLA's convolution elsewhere.

XLA's convolution on CPU is several times slower than the same arithmetic as matrix products, and
inside a `lax.scan` it runs on a single thread. `Conv` is `flax.linen.Conv` with the lowering below.
All convolutions of flowvid use this module.

On CPU a convolution consists of one linear map, `im2col`, and two-dimensional products:

    y  = patches(x) K          dx = patches^T(dy K^T)          dK = patches(x)^T dy

where K is the kernel as a [rows * cols * c_in, c_out] matrix. Patches are larger than their array
by the size of the kernel, so they are taken on the side with fewer channels: a convolution with
stride 1 is also the input gradient of its mirror image (kernel flipped in space, channels swapped),
and a convolution from many channels to few is computed that way.

Where both sides have about as many channels, each takes its part: the columns under the window are
put together before the product, and what it gives for each row of the window is added up after it.
So a third of the numbers pass through memory.
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

    If `mirrored`, the kernel is given as its mirror image, [rows, cols, c_out, c_in], flipped in
    space. A convolution with stride 1 from many channels to few multiplies by this form, so that
    the kernel need not be copied to another layout.
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
    """Convolves images as `lax.conv_general_dilated` does, with a lowering per platform.

    It accepts the arguments that `flax.linen.Conv` passes. It can be differentiated in reverse mode
    only, and its residuals are `lhs` and `rhs` alone.

    Args:
        lhs: images, [batch, height, width, c_in].
        rhs: kernel, [rows, cols, c_in, c_out], where rows and cols are odd.
        window_strides: strides of rows and of columns, in pixels.
        padding: "SAME".
        lhs_dilation: None or ones.
        rhs_dilation: None or ones.
        dimension_numbers: ("NHWC", "HWIO", "NHWC") in any form that `lax` accepts.
        feature_group_count: 1.
        precision: of the products, as in `lax.dot_general`.

    Raises:
        ValueError: for any other kind of convolution.
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
        f"Unsupported convolution: {what}. Use NHWC images, an HWIO kernel with odd sizes (as in "
        "kernel_size=(3, 3)), 'SAME' padding, no dilation and no groups. flax.linen.Conv supports "
        "other convolutions, but is slow on CPU."
    )


Conv = functools.partial(nn.Conv, conv_general_dilated=conv_general_dilated)


# The custom VJP chooses the platform inside both rules. Otherwise JAX would store the patches of
# the CPU branch as residuals on every platform, once per iteration of a scan.


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
    if _is_balanced(window, kernel):
        return _by_rows(window, x, kernel)
    if _runs_mirrored(window, kernel):
        return _cpu_conv(window._replace(mirrored=True), x, _mirror(kernel))
    return _forward(window, x, kernel)


def _cpu_gradients(
    window: Window, x: Images, kernel: EitherKernel, dy: OutImages
) -> tuple[Images, EitherKernel]:
    if window.mirrored:
        return _forward(window, dy, kernel), _kernel_gradient(window, dy, x)
    if _is_balanced(window, kernel):
        dx = _by_rows(window, dy, _mirror(kernel))
        return dx, _kernel_gradient_by_rows(window, x, dy)
    if _runs_mirrored(window, kernel):
        mirrored = window._replace(mirrored=True)
        dx, dkernel = _cpu_gradients(mirrored, x, _mirror(kernel), dy)
        return dx, _mirror(dkernel)
    return _input_gradient(window, dy, kernel, x.shape), _kernel_gradient(window, x, dy)


class Lowering(NamedTuple):
    """A convolution, and its gradients with respect to images and kernel.

    `conv(window, x, kernel) -> y` and `gradients(window, x, kernel, dy) -> (dx, dkernel)`, for code
    that chooses the platform itself because it defines a custom VJP.
    """

    conv: Callable[[Window, Any, Any], Any]
    gradients: Callable[[Window, Any, Any, Any], Any]


PRODUCTS = Lowering(_cpu_conv, _cpu_gradients)
XLA = Lowering(_xla_conv, _xla_gradients)


def _is_balanced(window: Window, kernel: Kernel) -> bool:
    # A kernel of one row or column has nothing to divide between the sides.
    fewer, more = sorted(kernel.shape[2:])
    return window.strides == (1, 1) and min(window.size) > 1 and more <= 2 * fewer


def _runs_mirrored(window: Window, kernel: Kernel) -> bool:
    # Patches with a stride are smaller, and a convolution with a stride has no mirror image.
    return window.strides == (1, 1) and kernel.shape[2] > kernel.shape[3]


def _mirror(kernel: Kernel) -> Float[Array, "rows cols c_out c_in"]:
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _forward(window: Window, x: Images, kernel: Kernel) -> OutImages:
    patches = im2col(window, x)
    y = jnp.dot(_matrix(patches), _matrix(kernel), precision=window.precision)
    return y.reshape(*patches.shape[:3], -1)


def _input_gradient(
    window: Window, dy: OutImages, kernel: Kernel, shape: tuple[int, ...]
) -> Images:
    dpatches = jnp.dot(_matrix(dy), _matrix(kernel).T, precision=window.precision)
    patches_of = functools.partial(im2col, window)
    transposed = jax.linear_transpose(patches_of, jax.ShapeDtypeStruct(shape, dy.dtype))
    return transposed(dpatches.reshape(*dy.shape[:3], -1))[0]


def _kernel_gradient(window: Window, x: Images, dy: OutImages) -> Kernel:
    patches = _matrix(im2col(window, x))
    dkernel = jnp.dot(patches.T, _matrix(dy), precision=window.precision)
    return dkernel.reshape(*window.size, x.shape[-1], dy.shape[-1])


def _by_rows(window: Window, x: Images, kernel: Kernel) -> OutImages:
    """Convolves with stride 1: columns of the window before the product, rows after it."""
    rows, cols, c_in, c_out = kernel.shape
    by_rows = kernel.transpose(1, 2, 0, 3).reshape(cols * c_in, rows * c_out)
    columns = im2col(window._replace(size=(1, cols)), x)
    product = jnp.dot(_matrix(columns), by_rows, precision=window.precision)
    of_rows = jnp.split(product.reshape(*x.shape[:3], -1), rows, axis=-1)
    moved = [_moved_down(part, rows // 2 - row) for row, part in enumerate(of_rows)]
    return sum(moved[1:], moved[0])


def _kernel_gradient_by_rows(window: Window, x: Images, dy: OutImages) -> Kernel:
    rows, cols = window.size
    columns = im2col(window._replace(size=(1, cols)), x)
    moved = [_moved_down(dy, row - rows // 2) for row in range(rows)]
    of_rows = jnp.concatenate(moved, axis=-1)
    dkernel = jnp.dot(_matrix(columns).T, _matrix(of_rows), precision=window.precision)
    return dkernel.reshape(cols, x.shape[-1], rows, dy.shape[-1]).transpose(2, 0, 1, 3)


def _moved_down(x: Images, rows: int) -> Images:
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (rows, -rows, 0), *2 * ((0, 0, 0),)))


def _matrix(array: Float[Array, "*rows cols"]) -> Float[Array, "all_rows cols"]:
    # Two-dimensional, because XLA's products of operands of higher rank are slower on CPU.
    return array.reshape(-1, array.shape[-1])


def im2col(window: Window, x: Images) -> Float[Array, "batch out_height out_width patch"]:
    """Concatenates the pixels under the window at each output pixel, on the channels."""
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
