"""From batches of clips to what head and tail model: dequantised frames, and those before them."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jaxtyping import Float, Int, Key, UInt8, UInt32

from flowvid.arrays import Labels
from flowvid.config.metrics import Metric
from flowvid.random_keys import FrameKeys
from flowvid.video.pixels import dequantize, to_grid


class Batch(NamedTuple):
    """A batch of clips; `example`, the global counter of examples, keys their noise."""

    video: UInt8[Array, "batch frames height width channels"]
    label: Int[Array, " batch"]
    example: UInt32[Array, " batch"]


class TailFrames(NamedTuple):
    """What the tail models, and what it may see."""

    x: Float[Array, "batch modelled height width channels"]  # dequantised
    clean: Float[Array, "batch earlier height width channels"]  # before them, on the metric's grid
    picked: Int[Array, "batch modelled"] | None  # indices of x among all next frames; None for all
    labels: Labels


def pick(tree: Any, picked: Array | None) -> Any:
    """Returns the frames [B, F, ...] of [B, T, ...] at the indices [B, F]; all of them for None."""
    if picked is None:
        return tree
    return jax.tree.map(lambda x: jax.vmap(lambda frames, at: frames[at])(x, picked), tree)


def head_frames(
    keys: FrameKeys, batch: Batch, metric: Metric
) -> Float[Array, "batch height width channels"]:
    """Returns dequantised first frames."""
    return dequantize(keys.head, batch.video[:, 0], metric)


def any_frames(
    keys: FrameKeys, choice: Key[Array, " batch"], batch: Batch, metric: Metric, drawn: int
) -> Float[Array, "batch drawn height width channels"]:
    """Returns dequantised frames drawn from each clip by its key in `choice`, without repeats."""
    choose = functools.partial(jax.random.choice, a=batch.video.shape[1], shape=(drawn,))
    picked = jax.vmap(lambda key: choose(key, replace=False))(choice)
    return dequantize(keys.head, pick(batch.video, picked), metric)


def tail_frames(
    keys: FrameKeys, batch: Batch, metric: Metric, drawn: int | None = None
) -> TailFrames:
    """Returns the dequantised frames after the first.

    Args:
        keys: of the batch.
        batch: the clips.
        metric: the one to dequantise with.
        drawn: how many frames to draw from each clip, without repeats; None for all of them.
    """
    later = batch.video[:, 1:]
    picked = None
    if drawn is not None:
        choose = functools.partial(jax.random.choice, a=later.shape[1], shape=(drawn,))
        picked = jax.vmap(lambda key: choose(key, replace=False))(keys.choice)
        later = pick(later, picked)
    clean = to_grid(batch.video[:, :-1], metric)
    return TailFrames(dequantize(keys.tail, later, metric), clean, picked, batch.label)


def dims(x: Array) -> int:
    """Returns D, height * width * channels of a frame."""
    return int(np.prod(x.shape[-3:]))
