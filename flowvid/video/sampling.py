"""Generates videos: frames from the head and the tail, one after another, on the device."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Key

from flowvid.arrays import Labels, Params, PixelVideos
from flowvid.config.schema import Config
from flowvid.random_keys import frame_keys
from flowvid.video import head, tail
from flowvid.video.build import Drawing
from flowvid.video.pixels import to_grid, to_pixels


class Samples(NamedTuple):
    """Generated videos, and which of them are finite from the first to the last frame.

    The pixels of a non-finite video have no meaning: report it, and do not draw it.
    """

    videos: PixelVideos
    finite: Bool[Array, " batch"]


class Drawings(NamedTuple):
    """How first frames are drawn, and those after them."""

    head: Drawing
    tail: Drawing


@functools.partial(jax.jit, static_argnames=("config", "num_frames"))
def generate(
    config: Config,
    params: dict[str, Params],
    keys: Key[Array, " batch"],
    labels: Labels,
    num_frames: int,
    how: Drawings,
) -> Samples:
    """Generates videos of `num_frames` frames from nothing, from one key and label per video.

    A single frame needs no parameters of a tail. In a Glow a temperature multiplies the standard
    deviations of all latents (Glow, section 6).
    """
    x = head.sample(config, params["head"], frame_keys(keys, 0), labels, how.head)
    first = Samples(to_pixels(x, config.metric)[:, None], jnp.all(jnp.isfinite(x), axis=(1, 2, 3)))
    if num_frames == 1:
        return first
    rest = continue_from(config, params, keys, first.videos, labels, num_frames - 1, how.tail)
    return Samples(rest.videos, rest.finite & first.finite)


@functools.partial(jax.jit, static_argnames=("config", "num_new"))
def continue_from(
    config: Config,
    params: dict[str, Params],
    keys: Key[Array, " batch"],
    given: PixelVideos,
    labels: Labels,
    num_new: int,
    how: Drawing,
) -> Samples:
    """Returns the given frames [B, F, H, W, 3] and `num_new` more after them.

    The state runs over all given frames. A sampled frame is put on the metric's grid, clipped,
    before it conditions the next, as real frames are in training.
    """
    clean = to_grid(given, config.metric)
    tail_params = tail.prepare(config, params["tail"])
    state = tail.first_state(config, clean[:, 0])
    state, _ = lax.scan(
        lambda state, frame: (tail.next_state(config, tail_params, state, frame), None),
        state,
        jnp.moveaxis(clean, 1, 0),
    )

    def body(carry: tuple[Array, Any], frame: Array) -> tuple[tuple[Array, Any], Samples]:
        previous, state = carry
        seen = tail.conditioning(config, previous, state, labels)
        x = tail.sample(config, tail_params, frame_keys(keys, frame), seen, how)
        pixels = to_pixels(x, config.metric)
        clean = to_grid(pixels, config.metric)
        state = tail.next_state(config, tail_params, state, clean)
        return (clean, state), Samples(pixels, jnp.all(jnp.isfinite(x), axis=(1, 2, 3)))

    frames = jnp.arange(given.shape[1], given.shape[1] + num_new)
    _, new = lax.scan(body, (clean[:, -1], state), frames)
    videos = jnp.concatenate([given, jnp.moveaxis(new.videos, 0, 1)], axis=1)
    return Samples(videos, jnp.all(new.finite, axis=0))
