"""Generating videos: frames from the head and the tail, one after another, on the device."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int, Key, UInt8

from flowvid import head, likelihood, tail
from flowvid.bijectors.base import Params
from flowvid.config import Config
from flowvid.streams import frame_keys

Videos = UInt8[Array, "batch frames height width channels"]


class Samples(NamedTuple):
    """Generated videos, and which of them are finite from the first to the last frame.

    The pixels of a video that is not finite mean nothing: report it, do not draw it.
    """

    videos: Videos
    finite: Bool[Array, " batch"]


@functools.partial(jax.jit, static_argnames=("config", "num_frames"))
def generate(
    config: Config,
    params: dict[str, Params],
    keys: Key[Array, " batch"],
    labels: Int[Array, " batch"],
    num_frames: int,
    temperature: Float[Array, ""],
) -> Samples:
    """Videos of `num_frames` frames from nothing; one key and one label a video.

    A single frame needs no parameters of a tail. `temperature` multiplies the standard deviations
    of all latents (Glow, section 6).
    """
    x = head.sample(config, params["head"], frame_keys(keys, 0), labels, temperature)
    first = Samples(
        likelihood.to_pixels(x, config.metric)[:, None], jnp.all(jnp.isfinite(x), axis=(1, 2, 3))
    )
    if num_frames == 1:
        return first
    rest = continue_from(config, params, keys, first.videos, num_frames - 1, temperature)
    return Samples(rest.videos, rest.finite & first.finite)


@functools.partial(jax.jit, static_argnames=("config", "num_new"))
def continue_from(
    config: Config,
    params: dict[str, Params],
    keys: Key[Array, " batch"],
    given: Videos,
    num_new: int,
    temperature: Float[Array, ""],
) -> Samples:
    """The given frames [B, F, H, W, 3] and `num_new` more after them.

    The state runs over all given frames. A sampled frame is put on the metric's grid, clipped,
    before it conditions the next, as real frames are in training.
    """
    clean = likelihood.to_grid(given, config.metric)
    tail_params = tail.prepare(config, params["tail"])
    state = tail.first_state(config, clean[:, 0])
    state, _ = lax.scan(
        lambda state, frame: (tail.next_state(config, tail_params, state, frame), None),
        state,
        jnp.moveaxis(clean, 1, 0),
    )

    def body(carry: tuple[Array, Array], frame: Array) -> tuple[tuple[Array, Array], Samples]:
        previous, state = carry
        x = tail.sample(config, tail_params, frame_keys(keys, frame), previous, state, temperature)
        pixels = likelihood.to_pixels(x, config.metric)
        clean = likelihood.to_grid(pixels, config.metric)
        state = tail.next_state(config, tail_params, state, clean)
        return (clean, state), Samples(pixels, jnp.all(jnp.isfinite(x), axis=(1, 2, 3)))

    frames = jnp.arange(given.shape[1], given.shape[1] + num_new)
    _, new = lax.scan(body, (clean[:, -1], state), frames)
    videos = jnp.concatenate([given, jnp.moveaxis(new.videos, 0, 1)], axis=1)
    return Samples(videos, jnp.all(new.finite, axis=0))
