"""Generates videos frame after frame, with constant memory: the head's frame, then the tail's.

There is one program for the first frame and one for any next frame, so that neither compilation nor
a frame depends on how long the videos become: a short video is the beginning of a longer one.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Key, UInt8

from flowvid.arrays import Images, Labels, Params, PixelVideos
from flowvid.conditioning.protocol import State
from flowvid.config.schema import Config
from flowvid.errors import ConfigError
from flowvid.parallel.compilation import jit
from flowvid.random_keys import frame_keys, past_keys
from flowvid.video import head, tail
from flowvid.video.build import Drawing
from flowvid.video.pixels import to_grid, to_pixels
from flowvid.video.walk import Walk


class Samples(NamedTuple):
    """Generated videos, and which of them are finite from the first to the last frame.

    The pixels of a non-finite video have no meaning: report it, and do not draw it.
    """

    videos: PixelVideos | UInt8[np.ndarray, "batch frames height width channels"]
    finite: Bool[Array | np.ndarray, " batch"]


class Frame(NamedTuple):
    """One frame of each video, and which of the videos are finite up to it."""

    pixels: UInt8[np.ndarray, "batch height width channels"]
    finite: Bool[np.ndarray, " batch"]


class Drawings(NamedTuple):
    """How first frames are drawn, and those after them."""

    head: Drawing
    tail: Drawing


def drawings(config: Config, temperature: Any, guidance: Any) -> Drawings:
    """Returns how head and tail draw, with the flow's defaults for what is None.

    Args:
        config: the run's.
        temperature: one, or one per level of the flow.
        guidance: the scale, of the models of the run that can be guided.

    Raises:
        ConfigError: for numbers below 0 or not finite, and for guidance of a run that has none.
    """
    if temperature is not None and not _are_finite(temperature, most_axes=1):
        raise ConfigError(
            f"temperature={temperature!r}: use a finite number from 0 on, or one per level."
        )
    if guidance is not None and not _are_finite(guidance):
        raise ConfigError(f"guidance={guidance!r}: use a finite number from 0 on.")
    scales = {model: config.guidance(model) for model in ("head", "tail")}
    if guidance is not None and all(scale is None for scale in scales.values()):
        raise ConfigError(
            "this run cannot be guided: guidance needs a variant with labels, --flow=mixture "
            "and a run trained with --label_dropout."
        )
    found = {}
    for model, scale in scales.items():
        of_model = config.flow_settings.temperatures(model, config.levels)
        if scale is not None and guidance is not None:
            scale = guidance
        found[model] = Drawing(
            jnp.asarray(of_model if temperature is None else temperature, jnp.float32),
            None if scale in (None, 1.0) else jnp.float32(scale),
        )
    return Drawings(**found)


def _are_finite(value: Any, most_axes: int = 0) -> bool:
    """Returns whether a value is a number, or several, and finite and 0 or more."""
    numbers = np.asarray(value)
    if numbers.ndim > most_axes or not numbers.size or numbers.dtype.kind not in "biuf":
        return False
    return bool(np.all(np.isfinite(numbers) & (numbers >= 0)))


def frames(
    config: Config,
    params: dict[str, Params],
    keys: Key[Array, " batch"],
    labels: Labels,
    how: Drawings,
    num_frames: int | None = None,
    given: UInt8[np.ndarray, "batch given height width channels"] | None = None,
) -> Iterator[Frame]:
    """Yields the frames of videos from one key and label per video, the given ones first.

    While the host uses a frame, the device draws the next one.

    Args:
        config: the run's.
        params: of head and tail by name; a single frame needs no tail.
        keys: one per video (`random_keys.video_keys`).
        labels: of the videos.
        how: the temperature and guidance. In a Glow a temperature multiplies the standard
            deviations of all latents (Glow, section 6).
        num_frames: the number of frames, given ones included; None goes on for ever.
        given: frames to continue; None generates videos from nothing.
    """
    before: Frame | None = None
    for frame in _dispatched(config, params, keys, labels, how, num_frames, given):
        if before is not None:
            yield Frame(*map(np.asarray, before))
        before = frame
    assert before is not None  # there is at least one frame
    yield Frame(*map(np.asarray, before))


def collected(of_frames: Iterator[Frame]) -> Samples:
    """Returns whole videos from their frames."""
    found = list(of_frames)
    return Samples(np.stack([frame.pixels for frame in found], axis=1), found[-1].finite)


def _dispatched(
    config: Config,
    params: dict[str, Params],
    keys: Key[Array, " batch"],
    labels: Labels,
    how: Drawings,
    num_frames: int | None,
    given: Any,
) -> Iterator[Any]:
    """Yields the same frames before they are computed.

    A sampled frame is put on the metric's grid, clipped, before it conditions the next, as real
    frames are in training. The state runs over all given frames. A single one does not show how
    things move, so that the context encoder may imagine another one before it.
    """
    if given is None:
        pixels, finite = _first(config, params["head"], keys, labels, how.head)
        known = [pixels]
    else:
        known, finite = list(np.moveaxis(given, 1, 0)), jnp.ones(len(keys), bool)
    for pixels in known:
        yield Frame(pixels, finite)
    if len(known) == num_frames:
        return
    of_tail = _prepared(config, params["tail"])
    walk = Walk(config, {"tail": of_tail}, labels)
    for pixels in known:
        walk.see(jnp.asarray(pixels))
    last, state = walk.last, walk.state
    if len(known) == 1:
        state = _with_past(config, of_tail, keys, state, labels)
    del known, walk
    for number in itertools.count(given.shape[1] if given is not None else 1):
        if number == num_frames:
            return
        pixels, finite, last, state = _next(
            config, of_tail, keys, np.uint32(number), last, state, finite, labels, how.tail
        )
        yield Frame(pixels, finite)


_jit = functools.partial(jit, static_argnums=0)


@_jit
def _first(
    config: Config, params: Params, keys: Key[Array, " batch"], labels: Labels, how: Drawing
) -> tuple[Array, Array]:
    x = head.sample(config, params, frame_keys(keys, 0), labels, how)
    return to_pixels(x, config.metric), _finite(x)


@_jit
def _prepared(config: Config, params: Params) -> Params:
    return tail.prepare(config, params)


@_jit
def _with_past(
    config: Config, params: Params, keys: Key[Array, " batch"], state: State, labels: Labels
) -> State:
    return tail.with_past(config, params, past_keys(keys), state, labels)


@_jit
def _next(
    config: Config,
    params: Params,
    keys: Key[Array, " batch"],
    number: Any,
    last: Images,
    state: State,
    finite: Bool[Array, " batch"],
    labels: Labels,
    how: Drawing,
) -> tuple[Array, Array, Images, State]:
    seen = tail.conditioning(config, last, state, labels)
    x = tail.sample(config, params, frame_keys(keys, number), seen, how)
    pixels = to_pixels(x, config.metric)
    last = to_grid(pixels, config.metric)
    state = tail.next_state(config, params, state, last)
    return pixels, finite & _finite(x), last, state


def _finite(x: Images) -> Bool[Array, " batch"]:
    return jnp.all(jnp.isfinite(x), axis=(1, 2, 3))
