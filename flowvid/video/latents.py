"""Videos as latents and back, one frame at a time, with constant memory.

A flow turns each frame, given those before it, into standard normal numbers. Both directions go
through a video with the same programs, so that they condition each frame on the same numbers. A
flow that models bins also computes their masses by the same programs in both directions
(`Flow.coded`), so that each bin comes back, however narrow a mixture is.

Dimensions: B batch, H height, W width.
"""

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import UInt8

from flowvid.arrays import Labels, Params
from flowvid.config.schema import Config
from flowvid.errors import ConfigError
from flowvid.flows.protocol import Contexts, Latents, Places
from flowvid.parallel.compilation import jit
from flowvid.video import bin_quantiles
from flowvid.video.build import flow_of, frame_shape
from flowvid.video.pixels import to_bins, to_grid, to_pixels
from flowvid.video.walk import Walk

Frames = UInt8[np.ndarray, "batch height width 3"]
FrameLatents = tuple[np.ndarray, ...]  # one array [B, ...] per level


class VideoLatents(NamedTuple):
    """The latents of some videos: for each frame a tuple of arrays [B, H / 2^l, W / 2^l, ...].

    There is one array per level, the finest first; a mixture flow has one more for its last image.
    Under the model all numbers are independent and standard normal. They are float64 if the flow
    models bins, because float32 has no room for a rare bin beside a likely one, and float32 else.
    """

    frames: tuple[FrameLatents, ...]

    def mixed(self, other: "VideoLatents", share: float) -> "VideoLatents":
        """Returns latents between these (share 0) and others of the same shapes (share 1).

        a cos(t) + b sin(t) is standard normal if a and b are, which a weighted mean is not.
        """
        angle = share * math.pi / 2
        ours, theirs = math.sin(math.pi / 2 - angle), math.sin(angle)  # exactly 1 and 0 at the ends
        return VideoLatents(jax.tree.map(lambda a, b: ours * a + theirs * b, *self, *other))

    def redrawn(self, levels: Sequence[int], seed: int = 0) -> "VideoLatents":
        """Returns these latents with those of some levels, 0 being the finest, drawn anew.

        Raises:
            ConfigError: for a level that there is not.
        """
        count, rng = len(self.frames[0]), np.random.default_rng(seed)
        if wrong := [level for level in levels if not 0 <= level < count]:
            raise ConfigError(f"level {wrong[0]}: use levels from 0 to {count - 1}.")
        return VideoLatents(
            tuple(
                tuple(
                    rng.standard_normal(z.shape).astype(z.dtype) if level in levels else z
                    for level, z in enumerate(frame)
                )
                for frame in self.frames
            )
        )


def encoded(
    config: Config, params: dict[str, Params], labels: Labels, frames: Iterable[Frames]
) -> VideoLatents:
    """Returns the latents of the middles of pixels' bins.

    Args:
        config: the run's.
        params: of head and tail by name.
        labels: of the videos.
        frames: one of each video after another.
    """
    walk, encode = Walk(config, params, labels), _of_bins if config.models_bins else _of_density
    return VideoLatents(tuple(encode(config, params, walk, frame) for frame in frames))


def decoded(
    config: Config, params: dict[str, Params], labels: Labels, latents: Iterable[FrameLatents]
) -> Iterator[Frames]:
    """Yields the frames of latents, those of one frame of each video after another.

    Args:
        config: the run's.
        params: of head and tail by name.
        labels: of the videos.
        latents: of each frame.
    """
    walk, decode = Walk(config, params, labels), _to_bins if config.models_bins else _to_density
    for z in latents:
        yield decode(config, params, walk, z)


def check(config: Config, latents: VideoLatents) -> int:
    """Returns the number of videos of latents that `decoded` can take.

    Raises:
        ConfigError: for other shapes than those of the models.
    """
    count = len(latents.frames[0][0]) if latents.frames else 0
    for number, frame in enumerate(latents.frames):
        flow = flow_of(config, "tail" if number else "head")
        wanted = [(count, *shape) for shape in flow.latent_shapes(frame_shape(config))]
        if (found := [np.shape(z) for z in frame]) != wanted:
            raise ConfigError(
                f"the latents of frame {number} are {found}, the model's are {wanted}: use those "
                "of model.encode."
            )
    if not count:
        raise ConfigError("there are no latents: give those of at least one frame.")
    return count


# Each of the following goes on by one frame of each video.


def _of_bins(config: Config, params: dict[str, Params], walk: Walk, frame: Frames) -> FrameLatents:
    del params  # the walk has them
    places = _places(config, walk.model)
    bins = to_bins(frame, config.metric).ravel()
    z = np.empty(bins.shape)

    def code(masses: np.ndarray, at: np.ndarray) -> np.ndarray:
        z[at] = bin_quantiles.of_bins(masses, bins[at])
        return bins[at]

    walk.coded(code)
    by_video = z.reshape(len(frame), -1)
    return tuple(by_video[:, of_level] for of_level in places)


def _to_bins(
    config: Config, params: dict[str, Params], walk: Walk, latents: FrameLatents
) -> Frames:
    del params  # the walk has them
    by_video = np.empty((len(latents[0]), math.prod(frame_shape(config))))
    for of_level, values in zip(_places(config, walk.model), latents, strict=True):
        by_video[:, of_level] = values
    z = by_video.ravel()
    return np.asarray(walk.coded(lambda masses, at: bin_quantiles.bins_of(masses, z[at])))


def _places(config: Config, model: str) -> Places:
    latent_places = flow_of(config, model).latent_places
    assert latent_places is not None  # where the flow models bins
    return latent_places(frame_shape(config))


def _of_density(
    config: Config, params: dict[str, Params], walk: Walk, frame: Frames
) -> FrameLatents:
    pixels, own = jnp.asarray(frame), params[walk.model]["flow"]
    z = _encoded(config, walk.model, own, pixels, walk.contexts())
    walk.see(pixels)
    return tuple(np.asarray(level) for level in z)


def _to_density(
    config: Config, params: dict[str, Params], walk: Walk, latents: FrameLatents
) -> Frames:
    z, own = tuple(map(jnp.asarray, latents)), params[walk.model]["flow"]
    pixels = _decoded(config, walk.model, own, z, walk.contexts())
    walk.see(pixels)
    return np.asarray(pixels)


@functools.partial(jit, static_argnums=(0, 1))
def _encoded(
    config: Config, model: str, params: Params, pixels: Array, contexts: Contexts
) -> Latents:
    half = 0.5 / 2**config.metric.n_bits
    return flow_of(config, model).encode(params, to_grid(pixels, config.metric) + half, contexts)


@functools.partial(jit, static_argnums=(0, 1))
def _decoded(
    config: Config, model: str, params: Params, latents: Latents, contexts: Contexts
) -> Array:
    return to_pixels(flow_of(config, model).decode(params, latents, contexts), config.metric)
