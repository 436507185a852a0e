"""What training does with labels: some are not told, and some are contrasted with others."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from flowvid import random_keys
from flowvid.config.schema import Config
from flowvid.flows.density import Density
from flowvid.video.frames import Batch

_CONTRASTED = 8  # every so manyth frame


def told(config: Config, batch: Batch, step: Array | int) -> Array:
    """Returns the labels of a batch; a share `config.label_dropout` of them is not told."""
    if not config.label_dropout:
        return batch.label
    stream = random_keys.Stream.TRAINING_LABEL_DROPOUT
    keys = random_keys.example_keys(config.seed, step, batch.example, stream)
    dropped = jax.vmap(jax.random.uniform)(keys) < config.label_dropout
    return jnp.where(dropped, config.num_labels, batch.label)


def contrasts(config: Config, model: str) -> bool:
    """Returns whether labels of "head" or "tail" are contrasted."""
    return bool(config.label_contrast) and config.sees(model).label


def further(config: Config, batch: Batch, step: Array | int) -> Array:
    """Returns for each clip how many labels further, in a circle, the one to compare with is."""
    stream = random_keys.Stream.TRAINING_LABEL_CONTRAST
    keys = random_keys.example_keys(config.seed, step, batch.example, stream)
    return jax.vmap(lambda key: jax.random.randint(key, (), 1, max(config.num_labels, 2)))(keys)


def contrast(
    density_under: Callable[[slice, Array], Density],
    compared: tuple[Array, Array, Array],
    num_labels: int,
) -> Array:
    """Returns softplus(log p(x | y') - log p(x | y)) in bits, y' another label than y.

    It is that of every eighth frame, and 0 of the others [N], scaled so that the mean over all
    frames is that of these. It is also 0 where the label is not told. Both terms are of the same
    frame, so that the noise of all that the label does not tell, which drowns it in bits per
    dimension, cancels.

    Args:
        density_under: from a slice of the frames and their other labels to p(x | y').
        compared: y, how many labels further y' is, and log p(x | y) in nats, of all frames [N].
        num_labels: how many labels there are.
    """
    some = slice(None, None, _CONTRASTED)
    own, by, log_prob = (part[some] for part in compared)
    is_told = own < num_labels
    other = jnp.where(is_told, (own + by) % num_labels, own)
    gap = jax.nn.softplus(density_under(some, other).log_prob - log_prob)
    of_all = compared[2]
    gap = len(of_all) / len(gap) * jnp.where(is_told, gap, 0) / jnp.log(2.0)
    return jnp.zeros_like(of_all).at[some].set(gap)
