"""What training makes of clips before the models see them: mirror images, windows for the tail."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from flowvid import random_keys
from flowvid.config.schema import Config
from flowvid.random_keys import Stream
from flowvid.video.frames import Batch


def mirrored(config: Config, batch: Batch, step: Array | int) -> Batch:
    """Returns the batch; with --augment=mirror, half of the clips, drawn anew, are mirrored."""
    if config.augment == "none":
        return batch
    keys = random_keys.example_keys(config.seed, step, batch.example, Stream.TRAINING_MIRROR)
    chosen = jax.vmap(jax.random.bernoulli)(keys)[:, None, None, None, None]
    return batch._replace(video=jnp.where(chosen, batch.video[:, :, :, ::-1], batch.video))


def cropped(config: Config, batch: Batch, step: Array | int) -> Batch:
    """Returns a window of --tail_crop of each clip, at the same place in all of its frames."""
    if config.tail_crop is None:
        return batch
    height, width = config.tail_crop
    keys = random_keys.example_keys(config.seed, step, batch.example, Stream.TRAINING_CROP)

    def window(key: Array, video: Array) -> Array:
        frames, rows, columns, channels = video.shape
        last = jnp.array([rows - height, columns - width])
        row, column = jax.random.randint(key, (2,), 0, last + 1)
        return lax.dynamic_slice(video, (0, row, column, 0), (frames, height, width, channels))

    return batch._replace(video=jax.vmap(window)(keys, batch.video))
