"""Cells of 2x2 pixels in raster order, and what is known of each before it is drawn.

Dimensions: B batch, H height, W width, C channels, h height and w width in cells, N = h w cells.
"""

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import Array, lax

from flowvid.arrays import CHANNELS, Images
from flowvid.flows.mixture import phases

PIXELS = 4  # of a cell
CELL = PIXELS * CHANNELS
FREQUENCIES = 4  # of the sines and cosines of a cell's position


def at(image: Array, row: Array, column: Array) -> Array:
    """Returns the entry [B, 1, 1, C] of an image at a place."""
    sizes = (image.shape[0], 1, 1, image.shape[3])
    return lax.dynamic_slice(image, (0, row, column, 0), sizes)


def near(cells: Array) -> Array:
    """Returns the cells to the left and above, scaled, [B, h, w, 16 C]."""
    return 4 * jnp.concatenate(_earlier(cells), axis=-1)


def before(cells: Array) -> Array:
    """Returns the cell before each in raster order, scaled, [B, N, 4 C]; zero before the first."""
    in_order = rearrange(cells, "b h w c -> b (h w) c")
    return 4 * jnp.pad(in_order, ((0, 0), (1, 0), (0, 0)))[:, :-1]


def _earlier(x: Array) -> list[Array]:
    """Returns what is to the left, above, and above to the left and right; zero outside."""
    places = ((0, -1), (-1, 0), (-1, -1), (-1, 1))
    return [phases.moved(x, *place, mode="constant") for place in places]


def with_positions(near: Array, x: Images) -> Array:
    """Returns what the transformer reads of each cell, [B, N, ...]: its neighbours and place."""
    height, width = x.shape[1] // 2, x.shape[2] // 2
    rows, columns = _waves(height)[:, None], _waves(width)[None]
    for part in (rows, columns):
        of_all = jnp.broadcast_to(part, (len(x), height, width, part.shape[-1]))
        near = jnp.concatenate([near, of_all], axis=-1)
    return rearrange(near, "b h w c -> b (h w) c")


def _waves(size: int) -> Array:
    """Returns cosines and sines of `size` places along an axis, [size, 2 frequencies]."""
    place = (jnp.arange(size) + 0.5) / size
    angles = jnp.pi * jnp.outer(place, 2.0 ** jnp.arange(FREQUENCIES))
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def known(features: Array, near: Array, cells: Array, pixel: Array | int) -> Array:
    """Returns what the network of a pixel of each cell reads; the cell's later pixels are zero."""
    earlier = jnp.arange(CELL) // CHANNELS < pixel
    own = jnp.where(earlier[None, None, None], cells, 0)
    return jnp.concatenate([features, near, 4 * own], axis=-1)


def anchors(x: Images) -> list[Array]:
    """Returns guesses at each pixel from earlier ones, each [B, H, W, C].

    They are the pixels to the left and above, their mean, the plane through the three nearest, and
    the mean of the two above, where the one above to the right is earlier.
    """
    left, above, corner, right = _earlier(x)
    _, height, width, _ = x.shape
    later = np.outer(np.arange(height) % 2, np.arange(width) % 2)[None, :, :, None] > 0
    return [
        left,
        above,
        (left + above) / 2,
        left + above - corner,
        jnp.where(later, above, (above + right) / 2),
    ]
