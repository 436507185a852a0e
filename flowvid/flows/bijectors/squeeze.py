"""Squeeze: moves each 2x2 block of pixels to the channels of one pixel."""

import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jaxtyping import Float, PRNGKeyArray

from flowvid.flows.bijectors.base import Bijector, Context, Images, LogDet, Params


def space_to_depth(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch half_height half_width channels_4"]:
    """Maps [B, H, W, C] to [B, H/2, W/2, 4C].

    Channels are ordered by (row, column, channel) within each 2x2 block.

    Raises:
        ValueError: if H or W is odd.
    """
    _, height, width, _ = x.shape
    if height % 2 or width % 2:
        raise ValueError(
            f"Height {height} and width {width} must both be divisible by 2 to be squeezed."
        )
    return rearrange(x, "b (h row) (w col) c -> b h w (row col c)", row=2, col=2)


def depth_to_space(
    y: Float[Array, "batch half_height half_width channels_4"],
) -> Float[Array, "batch height width channels"]:
    """Maps [B, H, W, 4C] to [B, 2H, 2W, C], as the inverse of `space_to_depth`.

    Raises:
        ValueError: if the number of channels is not divisible by 4.
    """
    channels = y.shape[-1]
    if channels % 4:
        raise ValueError(
            f"The number of channels, {channels}, must be divisible by 4 to be unsqueezed."
        )
    return rearrange(y, "b h w (row col c) -> b (h row) (w col) c", row=2, col=2)


def squeeze() -> Bijector:
    """Returns the bijector y = space_to_depth(x) (RealNVP, section 3.6).

    It is a permutation, so the log-determinant is zero. There are no parameters.
    """

    def init(key: PRNGKeyArray, x: Images, context: Context) -> Params:
        del key, x, context
        return {}

    def forward(params: Params, x: Images, context: Context) -> tuple[Array, LogDet]:
        del params, context
        return space_to_depth(x), jnp.zeros(x.shape[0])

    def inverse(params: Params, y: Images, context: Context) -> tuple[Array, LogDet]:
        del params, context
        return depth_to_space(y), jnp.zeros(y.shape[0])

    return Bijector(init, forward, inverse)
