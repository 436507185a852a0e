"""A memory of each pixel, of fixed size for videos of any length, without parameters.

It keeps the last four frames, the mean of each pixel since it last changed, and its ground: the
mean of the longest time that it stayed the same. Sensor noise averages out of both, and the ground
is still known when an object that covered it has gone. Where sensor noise is a good part of the
bits of a static pixel, this is worth more than any network.

Dimensions: B batch, H height, W width.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from flowvid.arrays import Images

Counts = Float[Array, "batch height width one"]

CHANGED = 1 / 16  # a pixel changed if a channel moved by more: 16 grey levels, 2 bins of 5 bits
LONGEST = 32.0  # counts stop here, so that means follow slow changes of the light


class Memory(NamedTuple):
    """What is known of a video; frames and means in [-1/2, 1/2), counts in frames."""

    frames: tuple[Images, Images, Images, Images]  # the last one first
    mean: Images  # since the pixel last changed
    mean_count: Counts
    ground: Images
    ground_count: Counts


def differs(a: Images, b: Images) -> Bool[Array, "batch height width one"]:
    """Returns where a channel differs by more than sensor noise does."""
    return jnp.any(jnp.abs(a - b) > CHANGED, axis=-1, keepdims=True)


def first_memory(frame: Images) -> Memory:
    """Returns the memory before any frame of a video of this shape is seen."""
    blank, none = jnp.zeros_like(frame), jnp.zeros_like(frame[..., :1])
    return Memory((blank, blank, blank, blank), blank, none, blank, none)


def next_memory(memory: Memory, frame: Images) -> Memory:
    """Returns the memory once a frame [B, H, W, 3], in [-1/2, 1/2), is seen."""
    changed = differs(frame, memory.mean)
    held = jnp.where(changed, 0.0, memory.mean_count)
    mean = (memory.mean * held + frame) / (held + 1)
    count = jnp.minimum(held + 1, LONGEST)

    off = differs(frame, memory.ground)
    at_ground = (memory.ground_count > 0) & ~off
    weight = memory.ground_count
    ground = jnp.where(at_ground, (memory.ground * weight + frame) / (weight + 1), memory.ground)
    weight = jnp.where(at_ground, jnp.minimum(weight + 1, LONGEST), weight)
    longer = ~at_ground & (count >= weight)
    return Memory(
        frames=(frame, *memory.frames[:3]),
        mean=mean,
        mean_count=count,
        ground=jnp.where(longer, mean, ground),
        ground_count=jnp.where(longer, count, weight),
    )
