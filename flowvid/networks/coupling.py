"""The network inside a coupling, and the zero-initialised convolution that it ends in."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flowvid.networks.convolution import Conv

KERNEL_INIT = nn.initializers.normal(0.05)  # Glow's own


@jax.custom_vjp
def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """max(x, 0), which keeps its output for the backward pass, as the next convolution does.

    `jax.nn.relu` keeps a mask beside it: a quarter more memory for a flow's stored activations.
    """
    return jnp.maximum(x, 0)


def _relu_fwd(x: Array) -> tuple[Array, Array]:
    y = relu(x)
    return y, y


def _relu_bwd(y: Array, dy: Array) -> tuple[Array]:
    return (jnp.where(y > 0, dy, 0),)


relu.defvjp(_relu_fwd, _relu_bwd)


class ZeroConv(nn.Module):
    """A 3x3 convolution that starts at zero, its output times exp(3 * scale) (Glow, section 3.3).

    The learned scale lets the output grow faster than the optimiser's steps on zero weights would.
    It is convolved in `dtype`, if one is given, and scaled in the parameters' own.
    """

    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width features"]:
        """[B, H, W, C] -> [B, H, W, features]."""
        y = Conv(self.features, (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype)(x)
        scale = self.param("scale", nn.initializers.zeros, (self.features,))
        return y.astype(scale.dtype) * jnp.exp(3.0 * scale)


class CouplingNetwork(nn.Module):
    """3x3 convolution to `width`, ReLU, 1x1, ReLU, 3x3 with zero weights (paper, section IV).

    With `dtype` bfloat16 the convolutions and what lies between them are of that type; parameters
    and output stay float32.
    """

    width: int
    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width features"]:
        """[B, H, W, C] -> [B, H, W, features]; C counts the context's channels too."""
        x = relu(Conv(self.width, (3, 3), kernel_init=KERNEL_INIT, dtype=self.dtype)(x))
        x = relu(Conv(self.width, (1, 1), kernel_init=KERNEL_INIT, dtype=self.dtype)(x))
        return ZeroConv(self.features, self.dtype)(x)
