"""The next frame as two layers: what moves, moved on, over the ground behind it.

A network says which pixels belong to what moves (the mask), and what the ground behind them looks
like. What moves is moved on by the motion of the last frames and what `dynamics` adds. Nothing of
this is ever labelled: `hindsight` reads it off the rest of each training clip. These layers follow
Wang and Adelson (1994).

Dimensions: B batch, H height, W width, C channels.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from flowvid.arrays import CHANNELS, Images
from flowvid.conditioning.unet import network
from flowvid.conditioning.unet.dynamics import CELL, Dynamics, known_of_objects, num_known
from flowvid.conditioning.unet.dynamics import flop as flop_of_dynamics
from flowvid.conditioning.unet.kinds import (
    LogPrior,
    Track,
    believed,
    expected,
    next_evidence,
)
from flowvid.conditioning.unet.memory import CHANGED, Memory
from flowvid.conditioning.unet.motion import (
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
_MOTIONS = 3  # the last ones
_SHARPNESS = 100.0  # of the comparison of a pixel with the ground: its unit is the pixel's range
_FIRST_LOGIT = -2.0  # of the mask, before training: as good as nothing moves
_SEEN = 10 * CHANNELS + 2  # channels of the maps that the network of the layers sees
NUM_KNOWN = num_known(_MOTIONS, _FEATURES)  # numbers of an object


class Layers(NamedTuple):
    """The layers of the last frame."""

    mask_logit: Mask  # log-odds that a pixel belongs to what moves
    wrong_logit: Mask  # log-odds that the memory's ground is wrong where it is covered
    is_ground: Mask  # 1 where the last frame looks like the memory's ground
    filled: Images  # the ground as its surroundings have it
    track: Track


class Next(NamedTuple):
    """The next frame that follows from layers."""

    moves: Displacements  # into it, in pixels
    coverage: Mask  # how much of each of its pixels is covered by what moves
    frame: Images


class LayerNetwork(nn.Module):
    """A U-Net, a network of how objects move on, and the arithmetic of layers between them.

    It maps a memory to `Layers`. Gradients reach the mask, the ground and the changes of motion.
    Before training, nearly everything is ground.

    Attributes:
        width: channels of the U-Net at half of the frame's resolution.
        factor: of `motion`, the `coarseness` of whole frames.
        levels: of the U-Net (`settings.levels_of_layers`).
        kinds: of motion.
    """

    width: int
    factor: int
    levels: int
    kinds: int

    def setup(self) -> None:
        """Makes the networks."""
        self.unet = _unet(self.width, self.levels)
        self.read_off = nn.Dense(5, kernel_init=nn.initializers.zeros)
        self.dynamics = Dynamics(self.factor, self.kinds)

    def change(self, objects: Maps) -> Array:
        """Returns the changes of the motion of objects for each kind, [B, h, w, K, 2]."""
        found: Array = self.dynamics(objects)
        return found

    def __call__(self, memory: Memory, before: Track) -> Layers:
        """Returns the layers of a memory's last frame, from those of the frame before it."""
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

        fixed_mask, fixed_features = lax.stop_gradient((mask, features))
        # A pixel that has never changed, such as of the ground, has been seen in all frames.
        num_seen = jnp.max(memory.mean_count, axis=(1, 2, 3), keepdims=True)
        moved = motion(last, memory.frames[1], fixed_mask, self.factor) * (num_seen > 1)
        earlier = sampled_at(before.moved[..., :4], positions(*mask.shape[1:3]) - moved)
        moved = jnp.concatenate([moved, earlier], axis=-1)
        objects = known_of_objects(
            fixed_mask, jnp.split(moved, 3, axis=-1), fixed_features, num_seen, self.factor
        )
        changes = self.change(objects)
        changes = changes.reshape(*changes.shape[:-2], -1)
        return Layers(
            mask_logit=mask_logit,
            wrong_logit=wrong_logit,
            is_ground=is_ground,
            filled=filled,
            track=Track(
                mask=mask,
                ground=ground,
                moved=moved,
                objects=objects,
                changes=masked_mean(changes, reduced(fixed_mask, CELL), _GROUP // CELL),
                evidence=next_evidence(before, moved[..., :2], fixed_mask, num_seen, self.factor),
            ),
        )


def next_frame(last: Images, track: Track, log_prior: LogPrior | None) -> Next:
    """Returns the frame after the last one.

    Args:
        last: the last frame.
        track: its layers, and how it moved.
        log_prior: of the kinds of motion, from a label; None if there is none.
    """
    change = enlarged(believed(track, log_prior), CELL, last.shape)
    moves = expected(track.moved) + change[:, : last.shape[1], : last.shape[2]]
    weight, layer = _moved_on(last, track.mask, moves)
    coverage = jnp.minimum(weight, 1.0)
    return Next(
        moves=moves,
        coverage=coverage,
        frame=layer / jnp.maximum(weight, 1.0) + (1 - coverage) * track.ground,
    )


def flop(layers: LayerNetwork, rows: int, columns: int) -> float:
    """Returns the floating-point operations of the two networks for one image's forward pass."""
    unet = _unet(layers.width, layers.levels, parent=None)
    of_dynamics = flop_of_dynamics(rows * columns // CELL**2, NUM_KNOWN, layers.kinds)
    return network.flop(unet, rows, columns, _SEEN) + of_dynamics


def _unet(width: int, levels: int, **options: Any) -> network.UNet:
    """Returns the network of the layers, whose finest features are read."""
    return network.UNet(width, _FEATURES, levels, read=1, **options)


def _seen(memory: Memory) -> Array:
    images = [*memory.frames, memory.mean, memory.ground, memory.frames[0] - memory.ground]
    images += [a - b for a, b in zip(memory.frames[:-1], memory.frames[1:], strict=True)]
    counts = [memory.mean_count / 16, memory.ground_count / 16]
    return jnp.concatenate([*(4 * image for image in images), *counts], axis=-1)


def _distance(a: Images, b: Images) -> Array:
    """Returns the largest difference of a channel, [B, H, W, 1]."""
    return jnp.max(jnp.abs(a - b), axis=-1, keepdims=True)


def _moved_on(x: Images, weight: Mask, moves: Displacements) -> tuple[Mask, Images]:
    """Adds each pixel, weighted, to the four pixels around the place that it moves to.

    Returns:
        the sums of weights, [B, H, W, 1], and of weighted pixels, [B, H, W, C]. What leaves the
        frame is lost.
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
    total = total[:, 1:-1, 1:-1]
    return total[..., :1], total[..., 1:]


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
