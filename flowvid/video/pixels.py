"""Converts pixels to densities and back, and nats to bits per dimension.

Nothing else in flowvid does either. A `Metric` says how grey values v in 0..255 become the real
numbers that a flow sees.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, Key, UInt8

from flowvid.config.metrics import Metric


def to_grid(
    pixels: UInt8[Array, "*batch height width channels"], metric: Metric
) -> Float[Array, "*batch height width channels"]:
    """Converts grey values to [-1/2, 1/2) without noise, as they condition the next frame."""
    if metric.floor:
        coarse = jnp.right_shift(pixels, jnp.uint8(8 - metric.n_bits)).astype(jnp.float32)
        return coarse / 2**metric.n_bits - 0.5
    return pixels.astype(jnp.float32) / 256 - 0.5


def to_bins(
    pixels: UInt8[np.ndarray, "*batch height width channels"], metric: Metric
) -> Int[np.ndarray, "*batch height width channels"]:
    """Returns the numbers of the bins that hold grey values; the metric's `floor` is True."""
    return (pixels >> (8 - metric.n_bits)).astype(np.int32)


def dequantize(
    keys: Key[Array, " batch"], pixels: UInt8[Array, " batch *shape"], metric: Metric
) -> Float[Array, " batch *shape"]:
    """Converts grey values to [-1/2, 1/2 + 2^-n), with uniform noise of width 2^-n.

    `keys` holds one key per example.
    """
    draw = lambda key: jax.random.uniform(key, pixels.shape[1:], maxval=2.0**-metric.n_bits)  # noqa: E731
    return to_grid(pixels, metric) + jax.vmap(draw)(keys)


def to_pixels(
    x: Float[Array, "*batch height width channels"], metric: Metric
) -> UInt8[Array, "*batch height width channels"]:
    """Returns the grey values of x, clipped to the valid range.

    It inverts `dequantize`, except for noise so close to a bin's edge that float32 rounds it to the
    next bin. With `floor`, the grey value is the middle of the n-bit bin, so that pictures are
    neither darker nor brighter than the original. Otherwise it is the grey value nearest to x minus
    the mean of the noise. Check that x is finite before drawing: non-finite values have no meaning.
    """
    if metric.floor:
        bins, width = 2**metric.n_bits, 2 ** (8 - metric.n_bits)
        pixels = jnp.clip(jnp.floor((x + 0.5) * bins), 0, bins - 1) * width + width // 2
    else:
        noise_mean = 256 / 2 ** (metric.n_bits + 1)
        pixels = jnp.clip(jnp.round((x + 0.5) * 256 - noise_mean), 0, 255)
    return pixels.astype(jnp.uint8)


def bits_per_dim(
    log_prob: Float[Array, "*batch"], num_dims: int, metric: Metric
) -> Float[Array, "*batch"]:
    """Converts nats of density to bits per dimension of the quantised image: -log2 p(x) / D + n.

    Args:
        log_prob: log-density of dequantised images, in nats.
        num_dims: D, height * width * channels.
        metric: the one the images were dequantised with; its n is the offset.
    """
    return -log_prob / (num_dims * math.log(2)) + metric.n_bits


def log_prob_from_bits(
    bits: Float[Array, "*batch"], num_dims: int, metric: Metric
) -> Float[Array, "*batch"]:
    """Converts bits per dimension to nats of density; the inverse of `bits_per_dim`."""
    return (metric.n_bits - bits) * (num_dims * math.log(2))
