"""A classifier of clips for moderate sizes: convolutions over each frame, then over time.

It is trained on real clips. Its features of single frames tell looks, and how they change tells
motions.
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt8
from tqdm import tqdm

from flowvid.data import datasets
from flowvid.flows.convolution import Conv

BATCH = 32
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
    ) -> Float[Array, "batch labels"]:
        """Returns the logits of the labels."""
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
        logits: Array = nn.Dense(self.num_labels)(jnp.concatenate(pooled, axis=-1))
        return logits


class Classifier(NamedTuple):
    """A trained network."""

    network: Network
    params: Any

    def classify(
        self, videos: UInt8[np.ndarray, "videos frames height width 3"]
    ) -> Int[np.ndarray, " videos"]:
        """Returns the most likely label of each clip."""
        parts = [videos[i : i + BATCH] for i in range(0, len(videos), BATCH)]
        return np.concatenate([np.asarray(_classify(*self, part)) for part in parts])


@functools.partial(jax.jit, static_argnames="network")
def _classify(network: Network, params: Any, videos: Any) -> Any:
    logits: Any = network.apply(params, videos)
    return jnp.argmax(logits, axis=1)


def train(dataset: datasets.Dataset, num_steps: int, seed: int) -> Classifier:
    """Trains a classifier with Adam and a cosine schedule on batches of 32 clips.

    Args:
        dataset: the training split.
        num_steps: of Adam.
        seed: of parameters and data order.
    """
    network = Network(len(dataset.label_names))
    optimiser = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, max(num_steps, 1)))
    batches = datasets.train_batches(dataset, batch_size=BATCH, seed=seed)

    @jax.jit
    def step(params: Any, opt_state: Any, videos: Any, labels: Any) -> tuple[Any, Any, Array]:
        def loss(params: Any) -> Array:
            logits: Any = network.apply(params, videos)
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

        value, gradients = jax.value_and_grad(loss)(params)
        changes, opt_state = optimiser.update(gradients, opt_state)
        return optax.apply_updates(params, changes), opt_state, value

    params: Any = network.init(jax.random.key(seed), jnp.asarray(dataset[0]["video"])[None])
    opt_state = optimiser.init(params)
    with tqdm(total=num_steps, desc="training the classifier", unit="step", leave=False) as bar:
        for batch in itertools.islice(batches, num_steps):
            params, opt_state, value = step(params, opt_state, batch["video"], batch["label"])
            bar.set_postfix_str(f"{float(value):.3f}", refresh=False)
            bar.update()
    return Classifier(network, params)
