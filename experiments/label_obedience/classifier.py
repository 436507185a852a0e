"""A classifier of clips for moderate sizes: convolutions over each frame, then over time.

It is trained on real clips. Its features of single frames tell looks, and how they change tells
motions.
"""

import math

import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from experiments.running import clip_classifier
from experiments.running.clip_classifier import Classifier
from flowvid.data import datasets
from flowvid.flows.convolution import Conv

_BATCH = 32
_MAPS = (24, 48, 64)  # channels of the convolutions over a frame; each halves height and width
_FEATURES = 96  # of a frame
_MOST_FRAMES = 15  # of a clip; those of a longer one are taken at equal distances
_LEARNING_RATE = 2e-3


class Network(nn.Module):
    """Convolutions over frames, two over time, and the mean and the largest value over time."""

    num_labels: int

    @nn.compact
    def __call__(
        self, videos: UInt8[Array, "batch frames height width 3"]
    ) -> tuple[Float[Array, "batch labels"], Float[Array, "batch features"]]:
        """Returns logits of the labels, and features."""
        x = videos[:, :: math.ceil(videos.shape[1] / _MOST_FRAMES)]
        batch, frames, *size = x.shape
        maps = x.reshape(batch * frames, *size).astype(jnp.float32) / 128 - 1
        for channels in _MAPS:
            maps = nn.relu(Conv(channels, (3, 3), strides=(2, 2))(maps))
        features = nn.relu(nn.Dense(_FEATURES)(maps.reshape(batch * frames, -1)))
        in_time = features.reshape(batch, frames, 1, _FEATURES)
        for _ in range(2):
            in_time += nn.relu(Conv(_FEATURES, (3, 1))(in_time))
        pooled = [jnp.mean(in_time, axis=(1, 2)), jnp.max(in_time, axis=(1, 2))]
        features = jnp.concatenate(pooled, axis=-1)
        return nn.Dense(self.num_labels)(features), features


def train(dataset: datasets.Dataset, num_steps: int, seed: int) -> Classifier:
    """Trains a classifier on batches of 32 clips, with the arguments of `clip_classifier.train`."""
    network = Network(len(dataset.label_names))
    rate = optax.cosine_decay_schedule(_LEARNING_RATE, max(num_steps, 1))
    return clip_classifier.train(
        network, dataset, num_steps, seed, batch_size=_BATCH, learning_rate=rate
    )
