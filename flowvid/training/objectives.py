"""The training losses of head and tail: bits per dimension of the frames of a batch."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowvid import random_keys
from flowvid.arrays import Params
from flowvid.config.metrics import Metric
from flowvid.config.schema import Config
from flowvid.flows.density import Density
from flowvid.video import chunks, head, tail
from flowvid.video.frames import Batch, any_frames, dims, head_frames, tail_frames
from flowvid.video.pixels import bits_per_dim


def head_loss(config: Config, params: Params, batch: Batch, step: Array | int) -> tuple[Any, Any]:
    """Returns the mean bits per dimension of the head's frames (a scalar), and metrics to log.

    They are the first frames, or any, as `config.head_frames` says.
    """
    keys = random_keys.keys_of_frames(config.seed, random_keys.TRAINING, step, batch.example)
    labels = labels_told(config, batch, step)
    if config.head_frames == "any":
        stream = random_keys.Stream.TRAINING_HEAD_CHOICE
        choice = random_keys.example_keys(config.seed, step, batch.example, stream)
        drawn = any_frames(keys, choice, batch, config.metric, config.head_frames_drawn)
        x = drawn.reshape(-1, *drawn.shape[2:])
        labels = jnp.repeat(labels, config.head_frames_drawn)
    else:
        x = head_frames(keys, batch, config.metric)
    density = head.log_prob(config, params, x, labels)
    bits, terms = _bits_and_terms(config.metric, density, x)
    loss, logs = _loss(jnp.mean(bits), jax.tree.map(jnp.mean, terms), x)
    if not (config.label_contrast and config.sees("head").label):
        return loss, logs
    stream = random_keys.Stream.TRAINING_LABEL_CONTRAST
    others = random_keys.example_keys(config.seed, step, batch.example, stream)
    others = jnp.repeat(others, len(x) // len(others))
    contrast = _label_contrast(config, params, others, x, labels, density.log_prob)
    return loss + config.label_contrast * contrast, logs | {"label_contrast": contrast}


def tail_loss(config: Config, params: Params, batch: Batch, step: Array | int) -> tuple[Any, Any]:
    """Returns the mean bits per dimension of the frames after the first, and metrics to log.

    `tail.frames_at_once` frames pass through the tail together. The loss of the context encoder
    itself is added, if it has one; it is not among the "bits_per_dim" that are logged.
    """
    keys = random_keys.keys_of_frames(config.seed, random_keys.TRAINING, step, batch.example)
    batch = batch._replace(label=labels_told(config, batch, step))
    frames = tail_frames(keys, batch, config.metric, config.tail_frames)

    def bits_and_terms(params: Params, chunk: Any) -> tuple[Array, dict[str, Array]]:
        density = tail.frames_log_prob(config, params, *chunk)
        return _bits_and_terms(config.metric, density, chunk[0])

    seen = tail.conditionings(config, params, frames.clean, frames.labels)
    bits, terms = chunks.mean(
        bits_and_terms, params, tail.modelled_of(frames, seen), tail.frames_at_once(config)
    )
    stream = random_keys.Stream.TRAINING_ENCODER
    encoder_keys = random_keys.example_keys(config.seed, step, batch.example, stream)
    auxiliary, of_encoder = tail.auxiliary_loss(config, params, encoder_keys, frames, seen)
    loss, logs = _loss(bits, terms, frames.x)
    return loss + auxiliary, logs | of_encoder


def labels_told(config: Config, batch: Batch, step: Array | int) -> Array:
    """Returns the labels of a batch; a share `config.label_dropout` of them is not told."""
    if not config.label_dropout:
        return batch.label
    stream = random_keys.Stream.TRAINING_LABEL_DROPOUT
    keys = random_keys.example_keys(config.seed, step, batch.example, stream)
    dropped = jax.vmap(jax.random.uniform)(keys) < config.label_dropout
    return jnp.where(dropped, config.num_labels, batch.label)


_CONTRASTED = 4  # every so manyth frame


def _label_contrast(
    config: Config, params: Params, keys: Array, x: Array, labels: Array, log_prob: Array
) -> Array:
    """Returns the mean of softplus(log p(x | y') - log p(x | y)), y' another label than y.

    It is in bits per dimension, of every fourth of the frames, but for those whose label is not
    told. Both terms are of the same frame, so that the noise of all that the label does not tell,
    which drowns it in bits per dimension, cancels.

    Args:
        config: the run's.
        params: the head's.
        keys: one per frame.
        x: the frames [N, H, W, C].
        labels: y [N].
        log_prob: log p(x | y) in nats, [N].
    """
    some = slice(None, None, _CONTRASTED)
    told = labels[some] < config.num_labels
    further = jax.vmap(lambda key: jax.random.randint(key, (), 1, config.num_labels))(keys[some])
    other = jnp.where(told, (labels[some] + further) % config.num_labels, labels[some])
    difference = head.log_prob(config, params, x[some], other).log_prob - log_prob[some]
    mean = jnp.mean(jnp.where(told, jax.nn.softplus(difference), 0))
    return mean / (dims(x) * jnp.log(2.0))


LOSSES = {"head": head_loss, "tail": tail_loss}


def _bits_and_terms(metric: Metric, density: Density, x: Array) -> tuple[Array, dict[str, Array]]:
    bits = bits_per_dim(density.log_prob, dims(x), metric)
    return bits, {
        "log_det_per_dim": density.log_det / dims(x),
        "log_prior_per_dim": density.log_prior / dims(x),
    }


def _loss(loss: Array, terms: dict[str, Array], x: Array) -> tuple[Any, Any]:
    logs = terms | {
        "bits_per_dim": loss,
        "frame_mean": jnp.mean(x),
        "frame_mean_square": jnp.mean(x**2),  # E[x^2]; a mean, so any number of devices agrees
    }
    return loss, logs
