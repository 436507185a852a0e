"""Squeeze: trades each 2x2 block of pixels for four times the channels."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PRNGKeyArray

from flowvid.flows.bijectors.base import Bijector, Context, Images, LogDet, Params


def space_to_depth(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch half_height half_width channels_4"]:
    """[B, H, W, C] -> [B, H/2, W/2, 4C], channels ordered (row, column, channel) of the 2x2 block.

    Raises:
        ValueError: if H or W is odd.
    """
    b, h, w, c = x.shape
    if h % 2 or w % 2:
        raise ValueError(f"Height {h} and width {w} must both be divisible by 2 to be squeezed.")
    x = x.reshape(b, h // 2, 2, w // 2, 2, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)


def depth_to_space(
    y: Float[Array, "batch half_height half_width channels_4"],
) -> Float[Array, "batch height width channels"]:
    """[B, H, W, 4C] -> [B, 2H, 2W, C], the inverse of `space_to_depth`.

    Raises:
        ValueError: if the number of channels is not divisible by 4.
    """
    b, h, w, c = y.shape
    if c % 4:
        raise ValueError(f"The number of channels, {c}, must be divisible by 4 to be unsqueezed.")
    y = y.reshape(b, h, w, 2, 2, c // 4)
    return y.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)


def squeeze() -> Bijector:
    """y = space_to_depth(x) (RealNVP, section 3.6). A permutation: log-det zero, no parameters."""

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
