"""Head and tail together: the parameters of both, and the bits of every frame of a video."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from flowvid import random_keys
from flowvid.arrays import CHANNELS, Params
from flowvid.config.metrics import Metric
from flowvid.config.schema import Config
from flowvid.random_keys import EVALUATION, INITIALISATION, FrameStreams, Seed, Stream
from flowvid.video import head, tail
from flowvid.video.frames import Batch, dims, head_frames, tail_frames
from flowvid.video.pixels import bits_per_dim


class VideoBits(NamedTuple):
    """Bits per dimension of each video's first frame [B] and of its later frames [B, T - 1]."""

    head: Float[Array, " batch"]
    tail: Float[Array, "batch later_frames"]


def eval_step(
    config: Config,
    metric: Metric,
    seed: Seed,
    params: dict[str, Params],
    batch: Batch,
    draw: Array | int = 0,
    streams: FrameStreams = EVALUATION,
) -> VideoBits:
    """Returns the bits per dimension of every frame of every video.

    Args:
        config: the run's.
        metric: how pixels are dequantised.
        seed: of the dequantisation noise.
        params: {"head": ..., "tail": ...}. Single images [B, 1, H, W, 3] need no tail, and have no
            later frames, [B, 0].
        batch: the videos.
        draw: the number of the noise draw.
        streams: the use of the noise: `random_keys.EVALUATION` or `random_keys.VALIDATION`.

    Seed, draw and streams may be traced.
    """
    keys = random_keys.keys_of_frames(seed, streams, draw, batch.example)
    x = head_frames(keys, batch, metric)
    density = head.log_prob(config, params["head"], x, batch.label)
    first = bits_per_dim(density.log_prob, dims(x), metric)
    if batch.video.shape[1] == 1:
        return VideoBits(first, jnp.zeros((len(first), 0)))
    frames = tail_frames(keys, batch, metric)
    density = tail.log_prob(config, params["tail"], frames)
    return VideoBits(first, bits_per_dim(density.log_prob, dims(x), metric))


def init_params(config: Config, batch: Batch) -> dict[str, Params]:
    """Returns the parameters of `config.models`, with data-dependent ones set from this batch.

    Every host must be given the same batch.
    """
    head_key, tail_key = (
        random_keys.stream_key(config.seed, stream)
        for stream in (Stream.HEAD_PARAMETERS, Stream.TAIL_PARAMETERS)
    )
    keys = random_keys.keys_of_frames(config.seed, INITIALISATION, 0, batch.example)
    x = head_frames(keys, batch, config.metric)
    params = {"head": head.init(config, head_key, x, batch.label)}
    if "tail" in config.models:
        frames = tail_frames(keys, batch, config.metric, config.tail_frames)
        params["tail"] = tail.init(config, tail_key, frames)
    return params


def blank_batch(config: Config) -> Batch:
    """Returns one black video, for what depends on shapes alone; traced, it takes no memory."""
    shape = (1, config.num_frames, *config.image_size, CHANNELS)
    zero = jnp.zeros(1, jnp.uint32)
    return Batch(jnp.zeros(shape, jnp.uint8), zero.astype(jnp.int32), zero)


def params_template(config: Config) -> dict[str, Params]:
    """Returns shapes and types of the parameters of `config.models`, without computing them."""
    return dict(_params_template(config, jax.config.read("jax_enable_x64")))


@functools.lru_cache(maxsize=64)  # tracing takes a second and more
def _params_template(config: Config, in_double_precision: bool) -> dict[str, Params]:
    del in_double_precision  # JAX knows it; the cache must, too
    return jax.eval_shape(lambda: init_params(config, blank_batch(config)))
