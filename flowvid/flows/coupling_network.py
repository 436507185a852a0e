"""The network inside a coupling, and the zero-initialised convolution that ends it."""

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

KERNEL_INIT = nn.initializers.normal(0.05)  # as in Glow's code

Images = Float[Array, "batch height width channels"]
Out = Float[Array, "batch height width features"]
Hidden = Float[Array, "batch height width hidden"]


class ZeroConv(nn.Module):
    """A zero-initialised 3x3 convolution times exp(3 * scale) (Glow, section 3.3).

    With the learned scale the output can grow faster than the optimiser's steps on weights allow.
    """

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width features"]:
        """Maps [B, H, W, C] to [B, H, W, features]."""
        y = Conv(self.features, (3, 3), kernel_init=nn.initializers.zeros)(x)
        scale = self.param("scale", nn.initializers.zeros, (self.features,))
        return y * jnp.exp(3.0 * lax.broadcast_to_rank(scale, y.ndim))


class CouplingNetwork(nn.Module):
    """Convolutions 3x3 to `width`, 1x1, and 3x3 with zero weights (paper, section IV).

    There is a ReLU after the first and the second. The output is scaled as in `ZeroConv`. If
    `dtype` is bfloat16, the convolutions and the activations between them have that type;
    parameters and output stay float32.
    """

    width: int
    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width features"]:
        """Maps [B, H, W, C] to [B, H, W, features]; C includes the channels of the context."""
        in_width, out = (3, 3, x.shape[-1], self.width), (3, 3, self.features, self.width)
        first = self._layer(0, KERNEL_INIT, in_width, self.width)
        # A matrix, because XLA copies arrays with axes of length 1 between equivalent layouts.
        matrix, bias_1 = self._layer(1, KERNEL_INIT, (self.width, self.width), self.width)
        middle = matrix[None, None], bias_1
        kernel, bias = self._layer(2, nn.initializers.zeros, out, self.features)
        scale = jnp.exp(3.0 * self.param("scale", nn.initializers.zeros, (self.features,)))
        layers = _Layers(first, middle, (kernel * scale[None, None, :, None], bias * scale))
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


# One custom VJP for the whole network, which chooses the platform inside both rules. Its residuals
# are the outputs of both ReLUs (`jax.nn.relu` would add masks), or of the second one alone.


@jax.custom_vjp
def three_layers(layers: _Layers, x: Images) -> Out:
    """Applies three convolutions with a ReLU between each two; differentiable in reverse mode only.

    Args:
        layers: kernel [rows, cols, c_in, c_out] and bias [c_out] of each convolution; the last
            kernel is given as its mirror image, [rows, cols, c_out, c_in].
        x: images [B, H, W, C].

    Returns:
        [B, H, W, c_out], where c_out is that of the last convolution.
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
    """Returns whether the output of the first ReLU is recomputed in the backward pass, not stored.

    The first level of a head convolves 6 channels to 512, which takes less time than writing the
    output to memory and reading it back.
    """
    first, middle = layers.first[0], layers.middle[0]
    return 8 * first.size <= middle.size


def _windows(layers: _Layers) -> tuple[Window, ...]:
    sizes = [kernel.shape[:2] for kernel, _ in layers]
    return tuple(Window(size, mirrored=i == 2) for i, size in enumerate(sizes))


def _first(how: Lowering, layers: _Layers, x: Images) -> Hidden:
    return jnp.maximum(_convolved(how, _windows(layers)[0], x, layers.first), 0)


def _convolved(how: Lowering, window: Window, x: Images, layer: tuple[Array, Array]) -> Out:
    kernel, bias = layer
    return how.conv(window, x, kernel) + lax.broadcast_to_rank(bias, x.ndim)


def _forward_with(how: Lowering) -> Callable[[_Layers, Images], tuple[Out, Hidden, Hidden]]:
    def forward(layers: _Layers, x: Images) -> tuple[Out, Hidden, Hidden]:
        """Returns the output of the network and of each ReLU."""
        _, of_middle, of_last = _windows(layers)
        first = _first(how, layers, x)
        middle = jnp.maximum(_convolved(how, of_middle, first, layers.middle), 0)
        return _convolved(how, of_last, middle, layers.last), first, middle

    return forward


def _backward_with(how: Lowering) -> Callable[..., tuple[_Layers, Images]]:
    def backward(
        layers: _Layers, x: Images, first: Hidden | None, middle: Hidden, dy: Out
    ) -> tuple[_Layers, Images]:
        """Returns the gradients with respect to layers and x."""
        if first is None:
            first = _first(how, layers, x)
        gradients = []
        backwards = zip(
            reversed(_windows(layers)), reversed(layers), (middle, first, x), strict=True
        )
        for window, (kernel, _), below in backwards:
            dbias = jnp.sum(dy, axis=(0, 1, 2))
            dbelow, dkernel = how.gradients(window, below, kernel, dy)
            gradients.append((dkernel, dbias))
            dy = dbelow if below is x else jnp.where(below > 0, dbelow, 0)
        return _Layers(*reversed(gradients)), dy

    return backward
