"""The GAN's step of training: the discriminator's, then the generator's, as one pmap body."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, nn

from flowvid import random_keys
from flowvid.arrays import Params
from flowvid.gan import model, spectral
from flowvid.gan.config import GanConfig
from flowvid.gan.networks import Videos
from flowvid.parallel.devices import mean_over_devices
from flowvid.training.steps import changed_if
from flowvid.training.train_state import moving_average
from flowvid.video.frames import Batch

NAMES = ("generator", "discriminator")
SATURATED = 0.99  # of tanh
SQUARES = 0.99  # Adam's memory of squared gradients


class Part(NamedTuple):
    """Generator or discriminator."""

    params: Params
    average: Params | None  # of the generator, where config.ema_decay asks for it
    opt_state: optax.OptState


class GanState(NamedTuple):
    """Everything that a step changes; a checkpoint holds it as it is."""

    generator: Part
    discriminator: Part
    vectors: spectral.Vectors  # of the discriminator's kernels
    step: Array  # scalar int32
    skipped: Array  # scalar int32: steps without a finite loss or gradient, that changed nothing


def optimiser(config: GanConfig, name: str) -> optax.GradientTransformation:
    """Adam; the discriminator may learn at another rate (Heusel et al. 2017).

    Squared gradients are remembered for a hundred steps: each model's goal moves with the other.
    """
    multiple = config.discriminator_rate if name == "discriminator" else 1.0
    return optax.adam(config.learning_rate * multiple, b1=config.beta1, b2=SQUARES)


def create(config: GanConfig) -> GanState:
    """The state before the first step."""
    params = model.init(config, random_keys.stream_key(config.seed, random_keys.PARAMS))
    generator, discriminator = (
        Part(params[name], None, optimiser(config, name).init(params[name])) for name in NAMES
    )
    if config.ema_decay:
        generator = generator._replace(average=jax.tree.map(jnp.copy, generator.params))
    vectors = spectral.init(discriminator.params)
    step, skipped = (jnp.zeros((), jnp.int32) for _ in range(2))
    return GanState(generator, discriminator, vectors, step, skipped)


def template(config: GanConfig) -> GanState:
    """Shapes and types of a run's state, without making one."""
    return jax.eval_shape(lambda: create(config))


def best_params(state: GanState) -> Params:
    """What is sampled from: the generator's average where there is one, else its parameters."""
    generator = state.generator
    return generator.params if generator.average is None else generator.average


def _normalised(config: GanConfig, params: Params, vectors: spectral.Vectors) -> Params:
    return spectral.normalise(params, vectors) if config.objective == "r1" else params


def penalty(config: GanConfig, params: Params, real: Videos, labels: Array) -> Array:
    """Mean over the batch of |grad D|^2 at real videos; the gradient is by pixels in [-1, 1]."""
    gradients = jax.grad(lambda x: jnp.sum(model.score(config, params, x, labels)))(real)
    return jnp.mean(jnp.sum(gradients**2, axis=(1, 2, 3, 4)))


def discriminator_loss(
    config: GanConfig,
    params: Params,
    vectors: spectral.Vectors,
    real: Videos,
    fake: Videos,
    labels: Array,
) -> tuple[Array, dict[str, Array]]:
    """Cross entropy of real against generated (Goodfellow et al. 2014); with r1, its penalty."""
    params = _normalised(config, params, vectors)
    of_real, of_fake = (model.score(config, params, videos, labels) for videos in (real, fake))
    loss = jnp.mean(nn.softplus(-of_real)) + jnp.mean(nn.softplus(of_fake))
    logs = {
        "loss": loss,
        "score_real": jnp.mean(of_real),
        "score_fake": jnp.mean(of_fake),
        "accuracy": (jnp.mean(of_real > 0) + jnp.mean(of_fake < 0)) / 2,
    }
    if config.objective == "r1":
        logs["penalty"] = penalty(config, params, real, labels)
        loss = loss + config.r1_weight / 2 * logs["penalty"]
    return loss, logs


def generator_loss(
    config: GanConfig,
    params: Params,
    judge: Params,
    keys: Any,
    labels: Array,
) -> tuple[Array, dict[str, Array]]:
    """The non-saturating loss, -log D(G(z)), and what to log of the videos (Figure 7)."""
    fake = model.generate(config, params, keys, labels)
    loss = jnp.mean(nn.softplus(-model.score(config, judge, fake, labels)))
    return loss, {
        "loss": loss,
        "frame_mean": jnp.mean(fake),
        "frame_std": jnp.mean(jnp.std(fake, axis=(2, 3, 4))),  # within a frame
        "between_std": jnp.mean(jnp.std(fake, axis=0)),  # between the videos of a device
        "saturated": jnp.mean(jnp.abs(fake) > SATURATED),
    }


def train_step(
    config: GanConfig, state: GanState, batch: Batch
) -> tuple[GanState, dict[str, dict[str, Array]]]:
    """A step of the discriminator, then one of the generator; the body of a `steps.on_devices`.

    A step of which a loss or gradient is not finite on any device changes nothing and is counted.

    Returns:
        The next state, and metrics by model, averaged over devices.
    """
    real = model.from_pixels(batch.video)
    judged, made = (
        random_keys.example_keys(config.seed, state.step, batch.example, stream)
        for stream in (random_keys.GAN_DISCRIMINATOR, random_keys.GAN_GENERATOR)
    )
    logs: dict[str, dict[str, Array]] = {}
    norms: dict[str, Array] = {}
    vectors = spectral.iterate(state.discriminator.params, state.vectors)

    def updated(name: str, part: Part, loss: Any) -> Part:
        (_, logs[name]), gradients = jax.value_and_grad(loss, has_aux=True)(part.params)
        gradients, logs[name] = mean_over_devices((gradients, logs[name]))
        norms[name] = optax.tree.norm(gradients)
        changes, opt_state = optimiser(config, name).update(gradients, part.opt_state)
        return part._replace(params=optax.apply_updates(part.params, changes), opt_state=opt_state)

    fake = model.generate(config, state.generator.params, judged, batch.label)
    discriminator = updated(
        "discriminator",
        state.discriminator,
        lambda p: discriminator_loss(config, p, vectors, real, fake, batch.label),
    )
    judge = _normalised(config, discriminator.params, vectors)
    generator = updated(
        "generator",
        state.generator,
        lambda p: generator_loss(config, p, judge, made, batch.label),
    )
    if generator.average is not None:
        average = moving_average(config.ema_decay, generator.average, generator.params, state.step)
        generator = generator._replace(average=average)
    values = [norms[name] for name in NAMES] + [logs[name]["loss"] for name in NAMES]
    finite = jnp.all(jnp.isfinite(jnp.stack(values)))
    generator, discriminator, vectors = changed_if(
        finite,
        lambda: (generator, discriminator, vectors),
        (state.generator, state.discriminator, state.vectors),
    )
    skipped = state.skipped + jnp.where(finite, 0, 1)
    metrics = {name: logs[name] | {"gradient_norm": norms[name]} for name in NAMES}
    metrics["generator"]["skipped"] = skipped
    return GanState(generator, discriminator, vectors, state.step + 1, skipped), metrics
