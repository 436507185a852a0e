"""A small video classifier, trained on a dataset's labels, whose activations are a clip's features.

Flow and GAN are compared by these features. Neither model has been trained on them, and they need
no pretrained network.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from experiments.running import clip_classifier
from experiments.running.clip_classifier import Classifier
from flowvid.data import datasets
from flowvid.flows.convolution import Conv
from flowvid.gan.model import from_pixels

FEATURES = 64
BATCH = 64
_MAPS = (32, 64, 64)  # channels of the convolutions; each halves height and width
_LEARNING_RATE = 1e-3


class Network(nn.Module):
    """Three convolutions of stride 2 over all frames together, then two dense layers."""

    num_labels: int

    @nn.compact
    def __call__(
        self, videos: UInt8[Array, "batch frames height width 3"]
    ) -> tuple[Float[Array, "batch labels"], Float[Array, "batch features"]]:
        """Returns logits of the labels, and features; frames are channels, so motion counts."""
        batch, frames, height, width, channels = videos.shape
        maps = jnp.moveaxis(from_pixels(videos), 1, 3)
        maps = maps.reshape(batch, height, width, frames * channels)
        for channels in _MAPS:
            maps = nn.relu(Conv(channels, (3, 3), strides=(2, 2))(maps))
        features = nn.relu(nn.Dense(FEATURES)(maps.reshape(batch, -1)))
        return nn.Dense(self.num_labels)(features), features


def train(dataset: datasets.Dataset, num_steps: int, seed: int) -> Classifier:
    """Trains a classifier on batches of 64 clips, with the arguments of `clip_classifier.train`."""
    network = Network(len(dataset.label_names))
    return clip_classifier.train(
        network, dataset, num_steps, seed, batch_size=BATCH, learning_rate=_LEARNING_RATE
    )
