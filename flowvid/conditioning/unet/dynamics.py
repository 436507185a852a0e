"""How objects move: small networks over a few numbers that are known of each of them.

Whether an object bounces, falls, swings or turns follows from where it is, how large it is, and how
it moved before. Given these numbers, a small network predicts motion to a tenth of a pixel, and
bounces at the edges of the frame; a U-Net over the pixels, which has to find them first, does not.

Every coarse pixel holds the numbers of the object that it belongs to, which is what the mask shows
around it. No object is ever counted or tracked.

A single frame does not show how things move. What is known of objects in it gives probabilities to
some motions, of which one is drawn where a video is continued from a single frame.

Dimensions: B batch, H height and W width in pixels, h and w in coarse ones (`motion.motion`), F
numbers of an object, M motions at a beginning.
"""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from flowvid.conditioning.unet.motion import (
    CoarseDisplacements,
    Maps,
    Mask,
    masked_mean,
    positions,
    reduced_mean,
)
from flowvid.flows.scale_and_shift import OF_VECTOR

_REACH = 3  # of the windows that make up an object, in coarse pixels; there are two in turn
# An object touches an edge when its centre is so many standard deviations of its pixels away: a
# disk at 2, other shapes somewhere between these.
_EXTENTS = (1.9, 2.3, 2.8)


# Motions at a beginning: at rest, and in some directions at some speeds, in units of motion.
_DIRECTIONS, _SPEEDS = 12, (0.5, 1.0, 1.5, 2.0)
BEGINNINGS = 1 + _DIRECTIONS * len(_SPEEDS)


class ObjectNetwork(nn.Module):
    """Maps what is known of objects to numbers, which are zero before training.

    Attributes:
        outputs: how many.
        width: of its two hidden layers.
    """

    outputs: int
    width: int

    @nn.compact
    def __call__(
        self,
        objects: Float[Array, "batch height width numbers"],
        vector: Float[Array, "batch vector"] | None,
    ) -> Float[Array, "batch height width outputs"]:
        """Returns the numbers at each coarse pixel.

        Args:
            objects: what is known of them, from `known_of_objects`.
            vector: that of the label, which says how things of its kind move.
        """
        x = nn.Dense(self.width)(objects)
        if vector is not None:
            of_label = nn.Dense(self.width, kernel_init=nn.initializers.zeros, name=OF_VECTOR)
            x += of_label(vector)[:, None, None]
        x = nn.silu(x)
        for _ in range(2):
            x += nn.silu(nn.Dense(self.width)(x))
        found: Array = nn.Dense(self.outputs, kernel_init=nn.initializers.zeros)(x)
        return found


def unit_of_motion(factor: int) -> float:
    """Returns the pixels in which objects' motion is measured, for the factor of `motion`."""
    return factor / 2


def beginnings(factor: int) -> Float[np.ndarray, "beginnings two"]:
    """Returns the motions at a beginning, in pixels."""
    angles = 2 * np.pi / _DIRECTIONS * np.arange(_DIRECTIONS)
    directions = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    moving = np.concatenate([speed * directions for speed in _SPEEDS])
    found: np.ndarray = unit_of_motion(factor) * np.concatenate([np.zeros((1, 2)), moving])
    return found.astype(np.float32)


def known_of_objects(
    mask: Mask, moved: Sequence[CoarseDisplacements], seen: Array, factor: int
) -> Float[Array, "batch coarse_height coarse_width numbers"]:
    """Returns at each coarse pixel what is known of its object.

    These are its place, its extent, its motion and how that changed, how far it would get beyond
    each edge of the frame, and for how long it has been seen. In a window of a frame (--tail_crop),
    places and edges are those of the window. How it looks is not among them: by its looks, a
    network remembers the motion of each object of the training clips.

    Args:
        mask: of what moves.
        moved: its motion into the last frame, and into the frames before it, the last one first.
        seen: number of frames that have been seen, up to four, [B, 1, 1, 1].
        factor: of `motion.motion`.
    """
    batch, height, width, _ = mask.shape
    size = jnp.array([height, width], mask.dtype)[None, None, None]
    at = jnp.broadcast_to(positions(height, width) * (2 / size) - 1, (batch, height, width, 2))
    place, mask = reduced_mean(at, mask, factor)
    of_object = object_mean(jnp.concatenate([place, *moved], axis=-1), mask)
    centre, *motions = jnp.split(of_object, 1 + len(moved), axis=-1)
    extent = jnp.sqrt(object_mean((place - centre) ** 2, mask) + 1e-5)
    ahead = centre + 2 / size * motions[0]
    beyond = [
        size / factor * nn.relu(side * ahead + count * extent - 1)
        for count in _EXTENTS
        for side in (1, -1)
    ]
    unit = unit_of_motion(factor)
    changes = [2 / unit * (new - old) for new, old in itertools.pairwise(motions)]
    age = jnp.broadcast_to(seen / 2, mask.shape)
    known = [centre, 4 * extent, motions[0] / unit, *changes, age, *beyond]
    return jnp.concatenate(known, axis=-1)


def num_known(motions: int) -> int:
    """Returns F, for so many motions."""
    return 2 + 2 + 2 * motions + 1 + 4 * len(_EXTENTS)


def flop(network: ObjectNetwork, pixels: int, known: int) -> float:
    """Returns the operations of a network for so many coarse pixels, of each so much is known."""
    width = network.width
    return 2.0 * pixels * (known * width + 2 * width**2 + width * network.outputs)


def object_mean(x: Maps, mask: Mask) -> Array:
    """Returns the mean of x [B, h, w, C] over the object of each coarse pixel.

    It is that over the mask in two windows in turn.
    """
    for _ in range(2):
        x = masked_mean(x, mask, _REACH)
    return x
