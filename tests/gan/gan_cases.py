"""A tiny GAN, its inputs and its parameters, for the tests of flowvid.gan."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from flowvid.gan import config, model
from flowvid.video.frames import Batch

TINY = {
    "preset": "small",
    "levels": 1,
    "width": 4,
    "first_views": 2,
    "num_frames": 3,
    "image_size": 8,
    "batch_size": 4,
    "learning_rate": 2e-3,
    "num_steps": 4,
    "eval_every": 2,
    "checkpoint_every": 2,
    "log_every": 1,
    "label_size": 1,
}
CHANNELS = (3, 4, 4)
NUM_LABELS = 8


def tiny(**changes):
    return config.preset_config(**TINY | {"num_labels": NUM_LABELS} | changes)


def batch(num_videos=4, frames=3, size=8):
    rng = np.random.default_rng(0)
    index = np.arange(num_videos, dtype=np.uint32)
    # Bright videos are easy to distinguish from those of an untrained generator.
    videos = rng.integers(200, 256, (num_videos, frames, size, size, 3), dtype=np.uint8)
    fields = (videos, (index % NUM_LABELS).astype(np.int32), index)
    return Batch(*map(jnp.asarray, fields))


# Compiled as a whole: operation by operation, each would be compiled by itself.
score = jax.jit(model.score, static_argnums=0)
generate = jax.jit(model.generate, static_argnums=0)


@functools.cache
def initial(settings):
    """Returns the parameters of both models."""
    return jax.jit(functools.partial(model.init, settings))(jax.random.key(0))


def moved(params):
    """Returns parameters with noise added, so that each of them has an effect."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), params)


def image(*shape):
    return jnp.asarray(np.random.default_rng(2).normal(size=shape), jnp.float32)
