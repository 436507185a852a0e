"""How surprising each frame of a video is, and where in the frame, with constant memory.

Dimensions: B batch, H height, W width.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, UInt8

from flowvid import random_keys
from flowvid.arrays import CHANNELS, Labels, Params
from flowvid.config.schema import Config
from flowvid.flows.protocol import Contexts
from flowvid.parallel.compilation import jit
from flowvid.video.build import flow_of
from flowvid.video.frames import dims
from flowvid.video.pixels import bits_per_dim, dequantize, to_grid
from flowvid.video.walk import Walk


class Surprise(NamedTuple):
    """Bits per dimension of one frame of each video."""

    bits: Float[np.ndarray, " batch"]
    # Of each pixel; their mean is `bits`. None where the flow does not say where bits are spent.
    maps: Float[np.ndarray, "batch height width"] | None


def surprises(
    config: Config,
    params: dict[str, Params],
    labels: Labels,
    frames: Iterable[UInt8[np.ndarray, "batch height width 3"]],
    seed: int,
) -> Iterator[Surprise]:
    """Yields the surprise of each frame, given those before it.

    Args:
        config: the run's.
        params: of head and tail by name.
        labels: of the videos; the number of labels where one is not told.
        frames: one of each video after another.
        seed: of the dequantisation noise of a flow that needs it.
    """
    walk = Walk(config, params, labels)
    index = jnp.arange(len(labels), dtype=jnp.uint32)
    for number, frame in enumerate(frames):
        pixels, model = jnp.asarray(frame), walk.model
        contexts, own = walk.contexts(), params[model]["flow"]
        if config.models_bins:
            maps = np.asarray(_maps(config, model, own, pixels, contexts))
            yield Surprise(maps.mean(axis=(1, 2)), maps)
        else:
            noise = random_keys.example_keys(seed, number, index, random_keys.Stream.SCORES)
            yield Surprise(np.asarray(_bits(config, model, own, pixels, contexts, noise)), None)
        walk.see(pixels)


@functools.partial(jit, static_argnums=(0, 1))
def _maps(config: Config, model: str, params: Params, pixels: Array, contexts: Contexts) -> Array:
    log_masses = flow_of(config, model).log_masses
    assert log_masses is not None  # where the flow models bins
    nats = log_masses(params, to_grid(pixels, config.metric), contexts)
    return -nats / (CHANNELS * jnp.log(2.0))


@functools.partial(jit, static_argnums=(0, 1))
def _bits(
    config: Config, model: str, params: Params, pixels: Array, contexts: Contexts, keys: Any
) -> Array:
    x = dequantize(keys, pixels, config.metric)
    density = flow_of(config, model).log_prob(params, x, contexts)
    return bits_per_dim(density.log_prob, dims(x), config.metric)
