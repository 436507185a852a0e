"""A small video classifier, trained on a dataset's labels, whose activations are a clip's features.

Flow and GAN are compared by these features. Neither model has been trained on them, and they need
no pretrained network.
"""

import functools
import itertools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt8
from tqdm import tqdm

from experiments.running.finished_runs import Videos
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


class Classifier(NamedTuple):
    """A trained network."""

    network: Network
    params: Any

    def classify(
        self, videos: Videos
    ) -> tuple[Int[np.ndarray, " videos"], Float[np.ndarray, "videos features"]]:
        """Returns the most likely label of each clip, and the clip's features."""
        parts = [videos[i : i + BATCH] for i in range(0, len(videos), BATCH)]
        results = [_classify(self.network, self.params, part) for part in parts]
        labels, features = (
            np.concatenate(list(map(np.asarray, part))) for part in zip(*results, strict=True)
        )
        return labels, features


@functools.partial(jax.jit, static_argnames="network")
def _classify(network: Network, params: Any, videos: Any) -> tuple[Array, Array]:
    logits, features = cast(tuple[Array, Array], network.apply(params, videos))
    return jnp.argmax(logits, axis=1), features


def train(dataset: datasets.Dataset, num_steps: int, seed: int) -> Classifier:
    """Trains a classifier with Adam on batches of 64 clips.

    Args:
        dataset: the training split.
        num_steps: of Adam.
        seed: of parameters and data order.
    """
    network = Network(len(dataset.label_names))
    optimiser = optax.adam(_LEARNING_RATE)
    batches = datasets.train_batches(dataset, batch_size=BATCH, seed=seed)

    @jax.jit
    def step(params: Any, opt_state: Any, videos: Any, labels: Any) -> tuple[Any, Any, Array]:
        def loss(params: Any) -> Array:
            logits, _ = network.apply(params, videos)
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

        value, gradients = jax.value_and_grad(loss)(params)
        changes, opt_state = optimiser.update(gradients, opt_state)
        return optax.apply_updates(params, changes), opt_state, value

    params: Any = network.init(jax.random.key(seed), jnp.asarray(dataset[0]["video"])[None])
    opt_state = optimiser.init(params)
    with tqdm(total=num_steps, desc=f"classifier {seed}", unit="step", leave=False) as bar:
        for batch in itertools.islice(batches, num_steps):
            params, opt_state, value = step(params, opt_state, batch["video"], batch["label"])
            bar.set_postfix_str(f"{float(value):.3f}", refresh=False)
            bar.update()
    return Classifier(network, params)
