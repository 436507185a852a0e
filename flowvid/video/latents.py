"""Videos as latents and back, one frame at a time, with constant memory.

A flow turns each frame, given those before it, into standard normal numbers. Both directions go
through a video with the same programs, so that they condition each frame on the same numbers.

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
from flowvid.flows.protocol import Contexts, Latents
from flowvid.video.build import flow_of, frame_shape
from flowvid.video.pixels import to_grid, to_pixels
from flowvid.video.walk import Walk

Frames = UInt8[np.ndarray, "batch height width 3"]
FrameLatents = tuple[np.ndarray, ...]  # one array [B, ...] per level


class VideoLatents(NamedTuple):
    """The latents of some videos: for each frame a tuple of arrays [B, H / 2^l, W / 2^l, ...].

    There is one array per level, the finest first; a mixture flow has one more for its last image.
    Under the model all numbers are independent and standard normal.
    """

    frames: tuple[FrameLatents, ...]

    def mixed(self, other: "VideoLatents", share: float) -> "VideoLatents":
        """Returns latents between these (share 0) and others of the same shapes (share 1).

        a cos(t) + b sin(t) is standard normal if a and b are, which a weighted mean is not.
        """
        angle = share * math.pi / 2
        ours, theirs = math.cos(angle), math.sin(angle)
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
                    rng.standard_normal(z.shape).astype(np.float32) if level in levels else z
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
    walk = Walk(config, params, labels)
    found: list[FrameLatents] = []
    for frame in frames:
        pixels, own = jnp.asarray(frame), params[walk.model]["flow"]
        z = _encoded(config, walk.model, own, pixels, walk.contexts())
        found.append(tuple(np.asarray(level) for level in z))
        walk.see(pixels)
    return VideoLatents(tuple(found))


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
    walk = Walk(config, params, labels)
    for z in latents:
        own = params[walk.model]["flow"]
        pixels = _decoded(config, walk.model, own, tuple(map(jnp.asarray, z)), walk.contexts())
        yield np.asarray(pixels)
        walk.see(pixels)


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


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encoded(
    config: Config, model: str, params: Params, pixels: Array, contexts: Contexts
) -> Latents:
    half = 0.5 / 2**config.metric.n_bits
    return flow_of(config, model).encode(params, to_grid(pixels, config.metric) + half, contexts)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _decoded(
    config: Config, model: str, params: Params, latents: Latents, contexts: Contexts
) -> Array:
    return to_pixels(flow_of(config, model).decode(params, latents, contexts), config.metric)
