"""The network inside a coupling, and the zero-initialised convolution that it ends in."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from flowvid.networks.convolution import Conv

KERNEL_INIT = nn.initializers.normal(0.05)  # Glow's own


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
    """3x3 convolution to `width`, ReLU, 1x1, ReLU, 3x3 with zero weights (paper, section IV)."""

    width: int
    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width features"]:
        """[B, H, W, C] -> [B, H, W, features]; C counts the context's channels too."""
        x = nn.relu(Conv(self.width, (3, 3), kernel_init=KERNEL_INIT)(x))
        x = nn.relu(Conv(self.width, (1, 1), kernel_init=KERNEL_INIT)(x))
        return ZeroConv(self.features)(x)
