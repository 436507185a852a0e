"""Phases of an image: the four images that its 2x2 cells consist of, and guesses at unknown ones.

Phase p = 2 row + column holds the pixels at (row, column) of every cell, so it is the image
subsampled by two. A level of the mixture flow models phases 3, 1 and 2 in turn, each given those
before it; phase 0 is the next level's image.

Dimensions: B batch, H height, W width, C channels.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jaxtyping import Float, Shaped

Image = Float[Array, "batch height width channels"]
Phase = Float[Array, "batch half_height half_width channels"]

ORDER = (3, 1, 2)  # a level's phases as they are modelled, once phase 0 is known


def split(x: Shaped[Array, "batch height width channels"]) -> tuple[Array, ...]:
    """Returns the four phases [B, H/2, W/2, C] of an image."""
    phases = rearrange(x, "b (h row) (w col) c -> (row col) b h w c", row=2, col=2)
    return tuple(phases)


def merge(phases: Mapping[int, Array]) -> Array:
    """Returns the image [B, 2H, 2W, C] of four phases by number; the inverse of `split`.

    Pixels may have more axes than that of channels.
    """
    stacked = jnp.stack([phases[p] for p in range(4)])
    return rearrange(stacked, "(row col) b h w ... -> b (h row) (w col) ...", row=2, col=2)


def moved(x: Phase, rows: int, columns: int, mode: str = "edge") -> Phase:
    """Returns x with entry (i, j) taken from (i + rows, j + columns), at most 1 each.

    Outside, edges are repeated, or, with the mode "constant" of `jnp.pad`, it is zero.
    """
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode)
    return padded[:, 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]


def interpolated(known: Mapping[int, Phase], phase: int) -> Phase:
    """Returns the mean of the four known pixels that are nearest to each pixel of a phase.

    `known` holds the phases before it, by number: phase 0, then those before it in `ORDER`.
    """
    if phase == 3:  # between four pixels of phase 0
        nearest = [moved(known[0], row, column) for row in (0, 1) for column in (0, 1)]
    elif phase == 1:  # phase 0 to the left and right, phase 3 above and below
        nearest = [known[0], moved(known[0], 0, 1), moved(known[3], -1, 0), known[3]]
    else:  # phase 0 above and below, phase 3 to the left and right
        nearest = [known[0], moved(known[0], 1, 0), moved(known[3], 0, -1), known[3]]
    return sum(nearest[1:], nearest[0]) / 4
