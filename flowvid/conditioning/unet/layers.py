"""The next frame as two layers: what moves, moved on, over the ground behind it.

A network says which pixels belong to what moves (the mask), and what the ground behind them looks
like. What moves is moved on by the motion of the last frames and a learned correction. Nothing of
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
from flowvid.conditioning.unet.settings import levels_of_layers
from flowvid.flows.scale_and_shift import OF_VECTOR
from flowvid.sizes import Size

_FEATURES = 16
_GROUP = 4  # reach of the windows over which motion is averaged: what is close moves alike
_STYLES = 4  # fields by which labels change the motion
_SHARPNESS = 100.0  # of the comparison of a pixel with the ground: its unit is the pixel's range
_FIRST_LOGIT = -2.0  # of the mask, before training: as good as nothing moves
_SEEN = 10 * CHANNELS + 2  # channels of the maps that the network of the layers sees
_SEEN_BY_MOTION = 2 * CHANNELS + 1 + 3 * 2 + 2 * 2


class Layers(NamedTuple):
    """The layers of the last frame, and the next frame that follows from them."""

    mask_logit: Mask  # log-odds that a pixel belongs to what moves
    wrong_logit: Mask  # log-odds that the memory's ground is wrong where it is covered
    mask: Mask
    is_ground: Mask  # 1 where the last frame looks like the memory's ground
    ground: Images
    filled: Images  # the ground as its surroundings have it
    moved: Displacements  # into the last frame, in pixels
    moves: Displacements  # into the next frame, in pixels
    coverage: Mask  # how much of each pixel of the next frame is covered by what moves
    next_frame: Images


class LayerNetwork(nn.Module):
    """Two U-Nets and the arithmetic of layers between them, from a memory to `Layers`.

    Gradients reach the mask, the ground and the correction of the motion. Before training, nearly
    everything is ground.

    Attributes:
        width: channels of the first U-Net at half of the frame's resolution.
        factor: of `motion`, the `coarseness` of whole frames.
    """

    width: int
    factor: int

    @nn.compact
    def __call__(self, memory: Memory, vector: network.Vector | None = None) -> Layers:
        """Returns the layers of a memory's last frame.

        A vector, that of the label, conditions how things move on.
        """
        last, before, before_that, _ = memory.frames
        height, width = last.shape[1:3]
        of_layers, of_motion = _unets(self.width, height, width)
        found = self._read_off(of_layers(_seen(memory)), 5)
        mask_logit, wrong_logit, correction = jnp.split(found, (1, 2), axis=-1)
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
        moved, moved_before = _motion_of_three(
            last, before, before_that, fixed_mask, fixed_ground, self.factor
        )
        # In a window of a frame (--tail_crop) these are the places in the window.
        at = positions(height, width) * (2 / jnp.array([[[[height, width]]]])) - 1
        at = jnp.broadcast_to(at, (len(last), height, width, 2))
        seen = [4 * last, 4 * fixed_ground, fixed_mask]
        seen += [moved, moved_before, moved - moved_before, at, fixed_mask * at]
        features = of_motion(jnp.concatenate(seen, axis=-1))
        change = self._read_off(features, 2)
        if vector is not None:
            change += self._of_label(features[0], vector)
        change = masked_mean(change, fixed_mask, _GROUP)
        moves = moved + (moved - moved_before) / 2 + change
        weight, layer = _moved_on(last, mask, moves)
        coverage = jnp.minimum(weight, 1.0)
        return Layers(
            mask_logit=mask_logit,
            wrong_logit=wrong_logit,
            mask=mask,
            is_ground=is_ground,
            ground=ground,
            filled=filled,
            moved=moved,
            moves=moves,
            coverage=coverage,
            next_frame=layer / jnp.maximum(weight, 1.0) + (1 - coverage) * ground,
        )

    def _read_off(self, features: list[Array], outputs: int) -> Array:
        """Returns a linear map of the finest features that starts at zero."""
        found: Array = nn.Dense(outputs, kernel_init=nn.initializers.zeros)(nn.silu(features[0]))
        return found

    def _of_label(self, features: Maps, vector: network.Vector) -> Displacements:
        """Returns what a label changes of the motion: a sum of fields, weighted by the label.

        A label that scales and shifts all features changes the motion of each clip in its own way,
        and these changes are mostly noise. So it only has a few numbers to say how things move.
        """
        zeros = nn.initializers.zeros
        weights = nn.Dense(_STYLES, kernel_init=zeros, name=OF_VECTOR)(vector)
        styles = nn.Dense(2 * _STYLES)(nn.silu(features))
        styles = styles.reshape(*features.shape[:3], _STYLES, 2)
        return jnp.einsum("bs,bhwsc->bhwc", weights, styles)


def flop(layers: LayerNetwork, rows: int, columns: int) -> float:
    """Returns the floating-point operations of the two networks for one image's forward pass."""
    unets = _unets(layers.width, rows, columns, parent=None)
    return sum(
        network.flop(unet, rows, columns, seen)
        for unet, seen in zip(unets, (_SEEN, _SEEN_BY_MOTION), strict=True)
    )


def _unets(width: int, rows: int, columns: int, **options: Any) -> tuple[network.UNet, ...]:
    """Returns the networks of the layers and of their motion, whose finest features are read."""
    levels = levels_of_layers(Size(rows, columns))
    return tuple(
        network.UNet(channels, _FEATURES, levels, read=1, **options)
        for channels in (width, 3 * width // 4)
    )


def _seen(memory: Memory) -> Array:
    images = [*memory.frames, memory.mean, memory.ground, memory.frames[0] - memory.ground]
    images += [a - b for a, b in zip(memory.frames[:-1], memory.frames[1:], strict=True)]
    counts = [memory.mean_count / 16, memory.ground_count / 16]
    return jnp.concatenate([*(4 * image for image in images), *counts], axis=-1)


def _distance(a: Images, b: Images) -> Array:
    """Returns the largest difference of a channel, [B, H, W, 1]."""
    return jnp.max(jnp.abs(a - b), axis=-1, keepdims=True)


def _motion_of_three(
    last: Images, before: Images, before_that: Images, mask: Mask, ground: Images, factor: int
) -> tuple[Displacements, Displacements]:
    """Returns the motion into the last frame, and that of the same things one frame earlier."""
    was_off_ground = _distance(before, ground) - 1.5 * CHANGED
    mask_before = nn.sigmoid(0.8 * _SHARPNESS * was_off_ground)
    # Together, since a program with one of two calls is compiled sooner.
    frames, earlier = jnp.concatenate([last, before]), jnp.concatenate([before, before_that])
    both = motion(frames, earlier, jnp.concatenate([mask, mask_before]), factor)
    moved, moved_before = jnp.split(both, 2)
    return moved, sampled_at(moved_before, positions(*last.shape[1:3]) - moved)


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
