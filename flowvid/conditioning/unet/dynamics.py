"""How objects move on: a small network over a few numbers that are known of each of them.

Whether an object bounces, falls, swings or turns follows from where it is, how large it is, and how
it moved before. Given these numbers, a small network predicts motion to a tenth of a pixel, and
bounces at the edges of the frame; a U-Net over the pixels, which has to find them first, does not.

Every cell of 2x2 pixels holds the numbers of the object that it belongs to, which is what the mask
shows around it. No object is ever counted.

Dimensions: B batch, H height, W width, h = H / 2, w = W / 2, F numbers of an object, K kinds.
"""

import itertools
import math
from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from flowvid.conditioning.unet.motion import (
    LEAST_WEIGHT,
    Displacements,
    Maps,
    Mask,
    masked_mean,
    positions,
    reduced,
)

CELL = 2  # pixels a side, over which objects are averaged: they are larger
_WIDTH = 48
_REACH = 3  # of the windows that make up an object, in coarse pixels; there are two in turn
# An object touches an edge when its centre is so many standard deviations of its pixels away: a
# disk at 2, other shapes somewhere between these.
_EXTENTS = (1.9, 2.3, 2.8)
_NEW = 4.0  # frames; with fewer, its earlier motion is not known


class Dynamics(nn.Module):
    """Predicts the change of each object's motion, if it moves as each of several kinds do.

    Attributes:
        factor: of `motion.motion`.
        kinds: K.
    """

    factor: int
    kinds: int

    @nn.compact
    def __call__(
        self, objects: Float[Array, "batch height width numbers"]
    ) -> Float[Array, "batch height width kinds two"]:
        """Returns what is added to motion at a constant acceleration, in pixels; zero at first.

        Args:
            objects: what is known of them, from `known_of_objects`.
        """
        of_kinds = self.param("kinds", nn.initializers.normal(0.5), (self.kinds, _WIDTH))
        x = nn.silu(nn.Dense(_WIDTH)(objects)[..., None, :] + of_kinds[None, None, None])
        for _ in range(2):
            x += nn.silu(nn.Dense(_WIDTH)(x))
        change: Array = nn.Dense(2, kernel_init=nn.initializers.zeros)(x)
        return change * (self.factor / 2)


def known_of_objects(
    mask: Mask, moved: Sequence[Displacements], looks: Maps, seen: Array, factor: int
) -> Float[Array, "batch half_height half_width numbers"]:
    """Returns what is known of the object at each cell of 2x2 pixels.

    These are its place, its extent, its motion and how that changed, how far it would get beyond
    each edge of the frame, features of how it looks, and for how long it has been seen. In a window
    of a frame (--tail_crop), places and edges are those of the window.

    Args:
        mask: of what moves.
        moved: its motion into the last frame, and into the frames before it, the last one first.
        looks: features of the pixels, [B, H, W, C].
        seen: number of frames that have been seen, [B, 1, 1, 1].
        factor: of `motion.motion`.
    """
    batch, height, width, _ = mask.shape
    size = jnp.array([height, width], mask.dtype)[None, None, None]
    at = jnp.broadcast_to(positions(height, width) * (2 / size) - 1, (batch, height, width, 2))
    of_pixels = jnp.concatenate([at, at**2, *moved, looks], axis=-1)
    means = object_mean(in_cells(of_pixels, mask), reduced(mask, CELL), factor)
    ends = [2 * (1 + number) for number in range(2 + len(moved))]
    centre, squares, *motions, looks = jnp.split(means, ends, axis=-1)
    extent = jnp.sqrt(nn.relu(squares - centre**2) + 1e-5)
    ahead = centre + 2 / size * motions[0]
    beyond = [
        size / factor * nn.relu(side * ahead + count * extent - 1)
        for count in _EXTENTS
        for side in (1, -1)
    ]
    unit = factor / 2  # of motion, in pixels
    changes = [2 / unit * (new - old) for new, old in itertools.pairwise(motions)]
    age = jnp.broadcast_to(2 / _NEW * jnp.minimum(seen, _NEW), means[..., :1].shape)
    known = [centre, 4 * extent, motions[0] / unit, *changes, looks, age, *beyond]
    return jnp.concatenate(known, axis=-1)


def num_known(motions: int, looks: int) -> int:
    """Returns F, for so many motions and features of looks."""
    return 2 + 2 + 2 * motions + looks + 1 + 4 * len(_EXTENTS)


def flop(pixels: int, known: int, kinds: int) -> float:
    """Returns the floating-point operations of the network for so many pixels."""
    return 2.0 * pixels * (known * _WIDTH + kinds * (2 * _WIDTH**2 + 2 * _WIDTH))


def in_cells(x: Maps, mask: Mask) -> Float[Array, "batch half_height half_width channels"]:
    """Returns means of x over the mask in cells of 2x2 pixels."""
    weight = mask + LEAST_WEIGHT
    return reduced(weight * x, CELL) / reduced(weight, CELL)


def object_mean(x: Maps, mask: Mask, factor: int) -> Array:
    """Returns the mean of x [B, h, w, C] over the object of each cell, in two windows in turn."""
    for _ in range(2):
        x = masked_mean(x, mask, math.ceil(_REACH * factor / CELL))
    return x
