"""Trains a classifier of clips on a dataset's labels; its network is given."""

import functools
import itertools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from experiments.running.finished_runs import Videos
from flowvid.data import datasets


class Classifier(NamedTuple):
    """A trained network, from videos to logits [B, L] and features [B, F]."""

    network: nn.Module
    params: Any
    batch_size: int

    def classify(
        self, videos: Videos
    ) -> tuple[Int[np.ndarray, " videos"], Float[np.ndarray, "videos features"]]:
        """Returns the most likely label of each clip, and the clip's features."""
        parts = [videos[i : i + self.batch_size] for i in range(0, len(videos), self.batch_size)]
        results = [_classify(self.network, self.params, part) for part in parts]
        labels, features = (
            np.concatenate(list(map(np.asarray, part))) for part in zip(*results, strict=True)
        )
        return labels, features


@functools.partial(jax.jit, static_argnames="network")
def _classify(network: nn.Module, params: Any, videos: Any) -> tuple[Array, Array]:
    logits, features = cast(tuple[Array, Array], network.apply(params, videos))
    return jnp.argmax(logits, axis=1), features


def train(
    network: nn.Module,
    dataset: datasets.Dataset,
    num_steps: int,
    seed: int,
    *,
    batch_size: int,
    learning_rate: optax.ScalarOrSchedule,
) -> Classifier:
    """Trains a classifier with Adam.

    Args:
        network: from uint8 videos to logits and features.
        dataset: the training split.
        num_steps: of Adam.
        seed: of parameters and data order.
        batch_size: clips per step.
        learning_rate: of Adam, or its schedule.
    """
    optimiser = optax.adam(learning_rate)
    batches = datasets.train_batches(dataset, batch_size=batch_size, seed=seed)

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
    return Classifier(network, params, batch_size)
