"""How objects move on: a small network over a few numbers that are known of each of them.

Whether an object bounces, falls, swings or turns follows from where it is, how large it is, and how
it moved before. Given these numbers, a small network predicts motion to a tenth of a pixel, and
bounces at the edges of the frame; a U-Net over the pixels, which has to find them first, does not.

Every pixel holds the numbers of the object that it belongs to, which is what the mask shows around
it. No object is ever counted or tracked.

Dimensions: B batch, H height, W width, F numbers of an object.
"""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from flowvid.conditioning.unet.motion import Displacements, Maps, Mask, masked_mean, positions
from flowvid.flows.scale_and_shift import OF_VECTOR

_WIDTH = 32
_REACH = 3  # of the windows that make up an object, in coarse pixels; there are two in turn
# An object touches an edge when its centre is so many standard deviations of its pixels away: a
# disk at 2, other shapes somewhere between these.
_EXTENTS = (1.9, 2.3, 2.8)
_NEW = 4.0  # frames; with fewer, its earlier motion is not known


class Dynamics(nn.Module):
    """Predicts the change of each object's motion.

    Attributes:
        factor: of `motion.motion`.
    """

    factor: int

    @nn.compact
    def __call__(
        self,
        objects: Float[Array, "batch height width numbers"],
        vector: Float[Array, "batch vector"] | None,
    ) -> Displacements:
        """Returns what is added to motion at a constant acceleration, in pixels; zero at first.

        Args:
            objects: what is known of them, from `known_of_objects`.
            vector: that of the label, which says how things of its kind move.
        """
        x = nn.Dense(_WIDTH)(objects)
        if vector is not None:
            of_label = nn.Dense(_WIDTH, kernel_init=nn.initializers.zeros, name=OF_VECTOR)
            x += of_label(vector)[:, None, None]
        x = nn.silu(x)
        for _ in range(2):
            x += nn.silu(nn.Dense(_WIDTH)(x))
        change: Array = nn.Dense(2, kernel_init=nn.initializers.zeros)(x)
        return change * (self.factor / 2)


def known_of_objects(
    mask: Mask, moved: Sequence[Displacements], looks: Maps, seen: Array, factor: int
) -> Float[Array, "batch height width numbers"]:
    """Returns at each pixel what is known of its object.

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
    means = _object_mean(jnp.concatenate([at, *moved, looks], axis=-1), mask, factor)
    ends = [2 * (1 + number) for number in range(1 + len(moved))]
    centre, *motions, looks = jnp.split(means, ends, axis=-1)
    extent = jnp.sqrt(_object_mean((at - centre) ** 2, mask, factor) + 1e-5)
    ahead = centre + 2 / size * motions[0]
    beyond = [
        size / factor * nn.relu(side * ahead + count * extent - 1)
        for count in _EXTENTS
        for side in (1, -1)
    ]
    unit = factor / 2  # of motion, in pixels
    changes = [2 / unit * (new - old) for new, old in itertools.pairwise(motions)]
    age = jnp.broadcast_to(2 / _NEW * jnp.minimum(seen, _NEW), mask.shape)
    known = [centre, 4 * extent, motions[0] / unit, *changes, looks, age, *beyond]
    return jnp.concatenate(known, axis=-1)


def num_known(motions: int, looks: int) -> int:
    """Returns F, for so many motions and features of looks."""
    return 2 + 2 + 2 * motions + looks + 1 + 4 * len(_EXTENTS)


def flop(pixels: int, known: int) -> float:
    """Returns the floating-point operations of the network for so many pixels."""
    return 2.0 * pixels * (known * _WIDTH + 2 * _WIDTH**2 + 2 * _WIDTH)


def _object_mean(x: Maps, mask: Mask, factor: int) -> Array:
    """Returns the mean of x over the object of each pixel, the mask in two windows in turn."""
    for _ in range(2):
        x = masked_mean(x, mask, _REACH * factor)
    return x
