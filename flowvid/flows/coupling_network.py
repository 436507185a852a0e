"""The network inside a coupling, and the zero-initialised convolution that it ends in."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flowvid.flows import convolution
from flowvid.flows.convolution import Conv, Lowering, Window

KERNEL_INIT = nn.initializers.normal(0.05)  # Glow's own

Images = Float[Array, "batch height width channels"]
Out = Float[Array, "batch height width features"]
Hidden = Float[Array, "batch height width hidden"]


class ZeroConv(nn.Module):
    """A 3x3 convolution that starts at zero, its output times exp(3 * scale) (Glow, section 3.3).

    The learned scale lets the output grow faster than the optimiser's steps on zero weights would.
    """

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width features"]:
        """[B, H, W, C] -> [B, H, W, features]."""
        y = Conv(self.features, (3, 3), kernel_init=nn.initializers.zeros)(x)
        scale = self.param("scale", nn.initializers.zeros, (self.features,))
        return y * jnp.exp(3.0 * scale)


class CouplingNetwork(nn.Module):
    """3x3 convolution to `width`, ReLU, 1x1, ReLU, 3x3 with zero weights (paper, section IV).

    The last one's output is scaled as `ZeroConv` does. With `dtype` bfloat16 the convolutions and
    what lies between them are of that type; parameters and output stay float32.
    """

    width: int
    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width features"]:
        """[B, H, W, C] -> [B, H, W, features]; C counts the context's channels too."""
        in_width, out = (3, 3, x.shape[-1], self.width), (3, 3, self.features, self.width)
        first = self._layer(0, KERNEL_INIT, in_width, self.width)
        # A matrix: axes of length one have several layouts in XLA, which copies between them.
        matrix, bias_1 = self._layer(1, KERNEL_INIT, (self.width, self.width), self.width)
        middle = matrix[None, None], bias_1
        kernel, bias = self._layer(2, nn.initializers.zeros, out, self.features)
        scale = jnp.exp(3.0 * self.param("scale", nn.initializers.zeros, (self.features,)))
        layers = _Layers(first, middle, (kernel * scale[:, None], bias * scale))
        dtype = x.dtype if self.dtype is None else self.dtype
        layers, x_as_computed = jax.tree.map(lambda a: a.astype(dtype), (layers, x))
        return three_layers(layers, x_as_computed).astype(x.dtype)

    def _layer(self, i: int, init: Any, shape: tuple[int, ...], features: int) -> Any:
        kernel = self.param(f"kernel_{i}", init, shape)
        return kernel, self.param(f"bias_{i}", nn.initializers.zeros, (features,))


class _Layers(NamedTuple):
    """(kernel, bias) of each of the three convolutions; the last kernel is mirrored (`Window`)."""

    first: tuple[Array, Array]
    middle: tuple[Array, Array]
    last: tuple[Array, Array]


# One custom VJP around the whole network, with the choice of the platform inside both rules. For
# the backward pass it keeps what the ReLUs gave (`jax.nn.relu` keeps masks, too), or only what the
# second one gave.


@jax.custom_vjp
def three_layers(layers: _Layers, x: Images) -> Out:
    """Convolution, ReLU, convolution, ReLU, convolution; reverse mode only.

    Args:
        layers: (kernel [rows, cols, c_in, c_out], bias [c_out]) of each, the last kernel as its
            mirror image, [rows, cols, c_out, c_in].
        x: [B, H, W, C].

    Returns:
        [B, H, W, c_out of the last].
    """
    return _three_layers_fwd(layers, x)[0]


def _three_layers_fwd(layers: _Layers, x: Images) -> tuple[Out, Any]:
    y, first, middle = lax.platform_dependent(
        layers, x, cpu=_forward_with(convolution.PRODUCTS), default=_forward_with(convolution.XLA)
    )
    return y, (layers, x, None if _first_is_cheap(layers) else first, middle)


def _three_layers_bwd(residuals: Any, dy: Out) -> tuple[_Layers, Images]:
    return lax.platform_dependent(
        *residuals,
        dy,
        cpu=_backward_with(convolution.PRODUCTS),
        default=_backward_with(convolution.XLA),
    )


three_layers.defvjp(_three_layers_fwd, _three_layers_bwd)


def _first_is_cheap(layers: _Layers) -> bool:
    """Whether to compute the first ReLU's output again rather than keep it.

    A head's first level convolves 6 channels to 512, in less time than it takes to write, keep and
    read what comes out.
    """
    first, middle = layers.first[0], layers.middle[0]
    return 8 * first.size <= middle.size


def _windows(layers: _Layers) -> tuple[Window, ...]:
    sizes = [kernel.shape[:2] for kernel, _ in layers]
    return tuple(Window(size, mirrored=i == 2) for i, size in enumerate(sizes))


def _first(how: Lowering, layers: _Layers, x: Images) -> Hidden:
    kernel, bias = layers.first
    return jnp.maximum(how.conv(_windows(layers)[0], x, kernel) + bias, 0)


def _forward_with(how: Lowering) -> Callable[[_Layers, Images], tuple[Out, Hidden, Hidden]]:
    def forward(layers: _Layers, x: Images) -> tuple[Out, Hidden, Hidden]:
        """The output, and what each ReLU gave."""
        _, of_middle, of_last = _windows(layers)
        first = _first(how, layers, x)
        middle = jnp.maximum(how.conv(of_middle, first, layers.middle[0]) + layers.middle[1], 0)
        return how.conv(of_last, middle, layers.last[0]) + layers.last[1], first, middle

    return forward


def _backward_with(how: Lowering) -> Callable[..., tuple[_Layers, Images]]:
    def backward(
        layers: _Layers, x: Images, first: Hidden | None, middle: Hidden, dy: Out
    ) -> tuple[_Layers, Images]:
        """The gradients of the layers and of x."""
        if first is None:
            first = _first(how, layers, x)
        gradients = []
        walk = zip(reversed(_windows(layers)), reversed(layers), (middle, first, x), strict=True)
        for window, (kernel, _), below in walk:
            dbias = jnp.sum(dy, axis=(0, 1, 2))
            dbelow, dkernel = how.gradients(window, below, kernel, dy)
            gradients.append((dkernel, dbias))
            dy = dbelow if below is x else jnp.where(below > 0, dbelow, 0)
        return _Layers(*reversed(gradients)), dy

    return backward
