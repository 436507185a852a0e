"""The next frame as two layers: what moves, moved on, over the ground behind it.

A network says which pixels belong to what moves (the mask), and what the ground behind them looks
like. What moves is moved on by the motion of the last frames and what `dynamics` adds; the motion
of an object that is seen for the first time is zero, unless a past is imagined. Nothing of
this is ever labelled: `hindsight` reads it off the rest of each training clip. These layers follow
Wang and Adelson (1994).

Dimensions: B batch, H height and W width in pixels, h and w in coarse ones, C channels.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Float

from flowvid.arrays import CHANNELS, Images
from flowvid.conditioning.protocol import BY_ADAM
from flowvid.conditioning.unet import network
from flowvid.conditioning.unet.dynamics import (
    BEGINNINGS,
    ObjectNetwork,
    known_of_objects,
    num_known,
    unit_of_motion,
)
from flowvid.conditioning.unet.dynamics import flop as flop_of_dynamics
from flowvid.conditioning.unet.memory import CHANGED, Memory
from flowvid.conditioning.unet.motion import (
    CoarseDisplacements,
    Displacements,
    Maps,
    Mask,
    enlarged,
    masked_mean,
    motion,
    positions,
    reduced,
    sampled_at,
    window_sum,
)

_FEATURES = 16
_GROUP = 4  # reach of the windows over which motion is averaged: what is close moves alike
_MOTIONS = 3  # that four frames show
_DYNAMICS_WIDTH, _BEGINNING_WIDTH = 32, 64  # of the networks of how objects move on, and begin to
_SHARPNESS = 100.0  # of the comparison of a pixel with the ground: its unit is the pixel's range
_FIRST_LOGIT = -2.0  # of the mask, before training: as good as nothing moves
_SEEN = 10 * CHANNELS + 2  # channels of the maps that the network of the layers sees


class Layers(NamedTuple):
    """The layers of the last frame, and the next frame that follows from them."""

    mask_logit: Mask  # log-odds that a pixel belongs to what moves
    wrong_logit: Mask  # log-odds that the memory's ground is wrong where it is covered
    mask: Mask
    is_ground: Mask  # 1 where the last frame looks like the memory's ground
    ground: Images
    filled: Images  # the ground as its surroundings have it
    moved: Displacements  # into the last frame, in pixels
    expected: CoarseDisplacements  # into the next frame, at a constant acceleration
    objects: Maps  # what is known of the object of each coarse pixel (`known_of_objects`)
    moves: Displacements  # into the next frame, in pixels
    coverage: Mask  # how much of each pixel of the next frame is covered by what moves
    next_frame: Images


class LayerNetwork(nn.Module):
    """A U-Net, a network of how objects move on, and the arithmetic of layers between them.

    It maps a memory to `Layers`. Gradients reach the mask, the ground and the change of motion.
    Before training, nearly everything is ground.

    Attributes:
        width: channels of the U-Net at half of the frame's resolution.
        factor: of `motion`, the `coarseness` of whole frames.
        levels: of the U-Net (`settings.levels_of_layers`).
    """

    width: int
    factor: int
    levels: int

    def setup(self) -> None:
        """Makes the networks."""
        self.unet = _unet(self.width, self.levels)
        self.read_off = nn.Dense(5, kernel_init=nn.initializers.zeros)
        self.dynamics = _dynamics()
        # Muon would make it remember the training clips: on others, its probabilities would be
        # worse than the frequencies of the motions.
        self.beginning = ObjectNetwork(BEGINNINGS, _BEGINNING_WIDTH, name="beginning" + BY_ADAM)

    def change(self, objects: Maps, vector: network.Vector | None) -> CoarseDisplacements:
        """Returns what is added to motion at a constant acceleration, [B, h, w, 2], in pixels."""
        found: Array = self.dynamics(objects, vector)
        return found * unit_of_motion(self.factor)

    def log_odds(self, objects: Maps, vector: network.Vector | None) -> Array:
        """Returns those of the motions of objects of which one frame is known, [B, h, w, M]."""
        found: Array = self.beginning(objects, vector)
        return found

    def __call__(self, memory: Memory, vector: network.Vector | None = None) -> Layers:
        """Returns the layers of a memory's last frame.

        A vector, that of the label, conditions how things move on.
        """
        last = memory.frames[0]
        features = nn.silu(self.unet(_seen(memory))[0])
        mask_logit, wrong_logit, correction = jnp.split(self.read_off(features), (1, 2), axis=-1)
        mask_logit += _FIRST_LOGIT
        mask = nn.sigmoid(2 * mask_logit)  # decided, so that objects do not fade and leave no stain
        is_ground = nn.sigmoid(_SHARPNESS * (1.25 * CHANGED - _distance(last, memory.ground)))

        # A pixel that does not move shows the ground: the memory's mean of it, if they agree.
        # Behind what moves, the memory's ground may be known from before.
        shown = jnp.where(is_ground > 0.5, memory.ground, last)
        behind = mask * (1 - is_ground) * nn.sigmoid(-wrong_logit)
        known = (1 - mask) + behind
        of_known = (1 - mask) * shown + behind * memory.ground
        trusted = nn.relu(4 * known - 3)
        surroundings = _filled(*lax.stop_gradient((of_known / jnp.maximum(known, 0.75), trusted)))
        filled = surroundings + correction / 8
        ground = of_known + (1 - known) * filled

        fixed_mask, fixed_ground = lax.stop_gradient((mask, ground))
        num_seen = _num_seen(memory.frames)
        moved = _motion_of_four(memory.frames, fixed_mask, fixed_ground, self.factor)
        moved = _known(moved, num_seen)
        expected = moved[0] + (moved[0] - moved[1]) / 2
        objects = lax.stop_gradient(known_of_objects(fixed_mask, moved, num_seen, self.factor))
        change = self.change(objects, vector)
        moved_here, expected_here, change_here = (
            enlarged(x, self.factor, mask.shape) for x in (moved[0], expected, change)
        )
        moves = expected_here + masked_mean(change_here, fixed_mask, _GROUP)
        if self.is_initializing():
            self.log_odds(objects, vector)
        coverage, next_frame = _moved_on(last, mask, moves, ground)
        return Layers(
            mask_logit=mask_logit,
            wrong_logit=wrong_logit,
            mask=mask,
            is_ground=is_ground,
            ground=ground,
            filled=filled,
            moved=moved_here,
            expected=expected,
            objects=objects,
            moves=moves,
            coverage=coverage,
            next_frame=next_frame,
        )


def frame_before(layers: Layers, last: Images, moved: Displacements) -> Images:
    """Returns the frame before the last one, [B, H, W, 3], if its objects have moved so."""
    smooth = masked_mean(moved, layers.mask, _GROUP)
    _, found = _moved_on(last, layers.mask, -smooth, layers.ground)
    return found


def flop(layers: LayerNetwork, rows: int, columns: int) -> float:
    """Returns the floating-point operations of the two networks for one image's forward pass."""
    unet = _unet(layers.width, layers.levels, parent=None)
    coarse_pixels = (rows // layers.factor) * (columns // layers.factor)
    known = num_known(_MOTIONS)
    of_dynamics = flop_of_dynamics(_dynamics(parent=None), coarse_pixels, known)
    return network.flop(unet, rows, columns, _SEEN) + of_dynamics


def _unet(width: int, levels: int, **options: Any) -> network.UNet:
    """Returns the network of the layers, whose finest features are read."""
    return network.UNet(width, _FEATURES, levels, read=1, **options)


def _dynamics(**options: Any) -> ObjectNetwork:
    """Returns the network of how objects move on."""
    return ObjectNetwork(2, _DYNAMICS_WIDTH, **options)


def _seen(memory: Memory) -> Array:
    images = [*memory.frames, memory.mean, memory.ground, memory.frames[0] - memory.ground]
    images += [a - b for a, b in zip(memory.frames[:-1], memory.frames[1:], strict=True)]
    counts = [memory.mean_count / 16, memory.ground_count / 16]
    return jnp.concatenate([*(4 * image for image in images), *counts], axis=-1)


def _distance(a: Images, b: Images) -> Array:
    """Returns the largest difference of a channel, [B, H, W, 1]."""
    return jnp.max(jnp.abs(a - b), axis=-1, keepdims=True)


def _motion_of_four(
    frames: tuple[Images, ...], mask: Mask, ground: Images, factor: int
) -> list[CoarseDisplacements]:
    """Returns the motion into the last frame, and that of the same things in the frames before it.

    Args:
        frames: the last four, the last one first.
        mask: of what moves in the last one.
        ground: behind it.
        factor: of `motion`.
    """
    off_ground = [_distance(frame, ground) - 1.5 * CHANGED for frame in frames[1:-1]]
    masks = [mask, *(nn.sigmoid(0.8 * _SHARPNESS * off) for off in off_ground)]
    # Together, since a program with one of several calls is compiled sooner.
    after, before, in_all = (jnp.concatenate(images) for images in (frames[:-1], frames[1:], masks))
    found = motion(after, before, in_all, factor)
    first, *earlier = jnp.split(found, len(masks))
    moved, at = [first], positions(*first.shape[1:3])
    for field in earlier:
        at = at - moved[-1] / factor
        moved.append(sampled_at(field, at))
    return moved


def _num_seen(frames: tuple[Images, ...]) -> Float[Array, "batch one one one"]:
    """Returns how many of a memory's frames have been seen; the others are zeros."""
    of_frames = [jnp.any(frame != 0, axis=(1, 2, 3), keepdims=True) for frame in frames]
    return sum((seen.astype(jnp.float32) for seen in of_frames), jnp.zeros(()))


def _known(moved: list[CoarseDisplacements], num_seen: Array) -> list[CoarseDisplacements]:
    """Returns motions, last one first, with the earliest known one for those before all frames."""
    known = [jnp.zeros_like(moved[0])]
    for frames, of_frames in enumerate(moved, start=2):
        known.append(jnp.where(num_seen >= frames, of_frames, known[-1]))
    return known[1:]


def _moved_on(x: Images, weight: Mask, moves: Displacements, ground: Images) -> tuple[Mask, Images]:
    """Adds each pixel, weighted, to the four pixels around the place that it moves to.

    Returns:
        how much of each pixel is covered then, and the frame, which shows the ground where it is
        not. What leaves the frame is lost.
    """
    batch, height, width, channels = x.shape
    to = positions(height, width) + moves
    corner = jnp.floor(to)
    lower, right = jnp.split(to - corner, 2, axis=-1)
    row, column = jnp.moveaxis(corner.astype(jnp.int32), -1, 0)
    values = jnp.concatenate([weight, weight * x], axis=-1)
    total = jnp.zeros((batch, height + 2, width + 2, 1 + channels), x.dtype)  # with an outer edge
    video = jnp.arange(batch)[:, None, None]
    for down in (0, 1):
        for along in (0, 1):
            share = (lower if down else 1 - lower) * (right if along else 1 - right)
            at_row = jnp.clip(row + down + 1, 0, height + 1)
            at_column = jnp.clip(column + along + 1, 0, width + 1)
            total = total.at[video, at_row, at_column].add(share * values)
    weight, layer = jnp.split(total[:, 1:-1, 1:-1], (1,), axis=-1)
    coverage = jnp.minimum(weight, 1.0)
    return coverage, layer / jnp.maximum(weight, 1.0) + (1 - coverage) * ground


def _filled(x: Maps, weight: Mask) -> Array:
    """Returns x with pixels of little weight taken from their surroundings, coarse to fine."""
    pyramid = [(x * weight, weight)]
    while min(pyramid[-1][1].shape[1:3]) > 2 and not any(
        size % 2 for size in pyramid[-1][1].shape[1:3]
    ):
        pyramid.append(jax.tree.map(lambda part: reduced(part, 2), pyramid[-1]))
    total, count = (jnp.sum(part, axis=(1, 2), keepdims=True) for part in pyramid[-1])
    found = jnp.broadcast_to(total / (count + 1e-4), pyramid[-1][0].shape)
    for total, count in reversed(pyramid):
        factor = total.shape[1] // found.shape[1]
        larger = enlarged(found, factor, total.shape)
        smooth = window_sum(larger, 1) / window_sum(jnp.ones_like(count), 1)
        trust = count / (count + 0.05)
        found = trust * total / (count + 1e-4) + (1 - trust) * smooth
    return found
