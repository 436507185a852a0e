"""What training does with labels: some are not told, and some are contrasted with others."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from flowvid import random_keys
from flowvid.config.schema import Config
from flowvid.video.frames import Batch


def told(config: Config, batch: Batch, step: Array | int) -> Array:
    """Returns the labels of a batch; a share `config.label_dropout` of them is not told."""
    if not config.label_dropout:
        return batch.label
    stream = random_keys.Stream.TRAINING_LABEL_DROPOUT
    keys = random_keys.example_keys(config.seed, step, batch.example, stream)
    dropped = jax.vmap(jax.random.uniform)(keys) < config.label_dropout
    return jnp.where(dropped, config.num_labels, batch.label)


def contrasts(config: Config) -> bool:
    """Returns whether labels of the head are contrasted."""
    return bool(config.label_contrast) and config.sees("head").label


def further(config: Config, batch: Batch, step: Array | int) -> Array:
    """Returns for each clip how many labels further, in a circle, the one to compare with is."""
    stream = random_keys.Stream.TRAINING_LABEL_CONTRAST
    keys = random_keys.example_keys(config.seed, step, batch.example, stream)
    return jax.vmap(lambda key: jax.random.randint(key, (), 1, max(config.num_labels, 2)))(keys)


def contrast(
    log_prob_under: Callable[[Array], Array],
    compared: tuple[Array, Array],
    num_labels: int,
    log_prob: Array,
) -> Array:
    """Returns the mean of softplus(log p(x | y') - log p(x | y)) in bits, y' another label than y.

    Frames whose label is not told count 0. Both terms are of the same frame, so that the noise of
    all that the label does not tell, which drowns it in bits per dimension, cancels.

    Args:
        log_prob_under: from labels of the frames to log p(x | y), in nats.
        compared: y of all frames, and how many labels further y' is, [N] each.
        num_labels: how many labels there are.
        log_prob: log p(x | y) of all frames [N].
    """
    own, by = compared
    is_told = own < num_labels
    other = jnp.where(is_told, (own + by) % num_labels, own)
    gap = jax.nn.softplus(log_prob_under(other) - log_prob)
    return jnp.mean(jnp.where(is_told, gap, 0)) / jnp.log(2.0)
