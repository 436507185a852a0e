"""The training losses of head and tail: bits per dimension of the frames of a batch."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowvid import random_keys
from flowvid.arrays import CHANNELS, Params
from flowvid.config.schema import Config
from flowvid.flows.density import Density
from flowvid.training import augmentation, labels
from flowvid.video import chunks, head, tail
from flowvid.video.frames import Batch, any_frames, dims, head_frames, tail_frames
from flowvid.video.pixels import bits_per_dim


def head_loss(config: Config, params: Params, batch: Batch, step: Array | int) -> tuple[Any, Any]:
    """Returns the mean bits per dimension of the head's frames (a scalar), and metrics to log.

    They are the first frames, or any, as `config.head_frames` says.
    """
    keys = random_keys.keys_of_frames(config.seed, random_keys.TRAINING, step, batch.example)
    batch = augmentation.mirrored(config, batch, step)
    told = labels.told(config, batch, step)
    if config.head_frames == "any":
        stream = random_keys.Stream.TRAINING_HEAD_CHOICE
        choice = random_keys.example_keys(config.seed, step, batch.example, stream)
        drawn = any_frames(keys, choice, batch, config.metric, config.head_frames_drawn)
        x = drawn.reshape(-1, *drawn.shape[2:])
        told = jnp.repeat(told, config.head_frames_drawn)
    else:
        x = head_frames(keys, batch, config.metric)
    density = head.log_prob(config, params, x, told)
    loss, terms = _loss_and_terms(config, density, x)
    if labels.contrasts(config):
        further = jnp.repeat(labels.further(config, batch, step), config.head_frames_drawn)
        contrast = labels.contrast(
            functools.partial(head.changeable_log_prob, config, params, x),
            (told, further),
            config.num_labels,
            density.log_prob if density.changeable is None else density.changeable,
        )
        of_each = jnp.full_like(loss, contrast / dims(x))
        loss, terms = loss + config.label_contrast * of_each, terms | {"label_contrast": of_each}
    return jnp.mean(loss), jax.tree.map(jnp.mean, terms) | _moments(x)


def tail_loss(config: Config, params: Params, batch: Batch, step: Array | int) -> tuple[Any, Any]:
    """Returns the mean bits per dimension of the frames after the first, and metrics to log.

    `tail.frames_at_once` frames pass through the tail together. The loss of the context encoder
    itself is added, if it has one; it is not among the "bits_per_dim" that are logged.
    """
    keys = random_keys.keys_of_frames(config.seed, random_keys.TRAINING, step, batch.example)
    batch = batch._replace(label=labels.told(config, batch, step))
    batch = augmentation.cropped(config, augmentation.mirrored(config, batch, step), step)
    frames = tail_frames(keys, batch, config.metric, config.tail_frames)

    def loss_and_terms(params: Params, chunk: Any) -> tuple[Array, dict[str, Array]]:
        x, seen = chunk
        return _loss_and_terms(config, tail.frames_log_prob(config, params, x, seen), x)

    seen = tail.conditionings(config, params, frames.clean, frames.labels)
    stream = random_keys.Stream.TRAINING_ENCODER
    encoder_keys = random_keys.example_keys(config.seed, step, batch.example, stream)
    auxiliary, of_encoder, kinds = tail.auxiliary_loss(config, params, encoder_keys, frames, seen)
    seen = seen._replace(label=jnp.repeat(kinds[:, None], seen.label.shape[1], axis=1))
    loss, terms = chunks.mean(
        loss_and_terms,
        params,
        tail.modelled_of(frames, seen),
        tail.frames_at_once(config, (frames.x.shape[2], frames.x.shape[3], CHANNELS)),
    )
    return loss + auxiliary, terms | of_encoder | _moments(frames.x)


LOSSES = {"head": head_loss, "tail": tail_loss}


def _loss_and_terms(config: Config, density: Density, x: Array) -> tuple[Array, dict[str, Array]]:
    """Returns the bits per dimension of each frame, which are its loss, and terms to log."""
    bits = bits_per_dim(density.log_prob, dims(x), config.metric)
    return bits, {
        "bits_per_dim": bits,
        "log_det_per_dim": density.log_det / dims(x),
        "log_prior_per_dim": density.log_prior / dims(x),
    }


def _moments(x: Array) -> dict[str, Array]:
    """Returns E[x] and E[x^2]: means, so that any number of devices agrees."""
    return {"frame_mean": jnp.mean(x), "frame_mean_square": jnp.mean(x**2)}
