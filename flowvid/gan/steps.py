"""The training step of the GAN: first the discriminator's, then the generator's, in one `pmap`."""

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
SATURATED = 0.99  # magnitude of tanh that counts as saturated
BETA2 = 0.99  # decay of Adam's mean of squared gradients


class Part(NamedTuple):
    """The train state of the generator or of the discriminator."""

    params: Params
    average: Params | None  # moving average of the generator if config.ema_decay > 0
    opt_state: optax.OptState


class GanState(NamedTuple):
    """Everything that a step changes, which is what a checkpoint holds."""

    generator: Part
    discriminator: Part
    vectors: spectral.Vectors  # of the discriminator's kernels
    step: Array  # scalar int32
    skipped: Array  # scalar int32: steps skipped because of a non-finite loss or gradient

    @property
    def best_step(self) -> int:
        """Returns -1: without a likelihood, no step is known to be best."""
        return -1

    @property
    def restore_step(self) -> int:
        """Returns -1: a run of the GAN never restores an earlier step."""
        return -1


def optimiser(config: GanConfig, name: str) -> optax.GradientTransformation:
    """Returns Adam, with a learning rate per model (Heusel et al. 2017).

    Squared gradients are averaged over about 100 steps, because the objective of each model changes
    with the other model.
    """
    multiple = config.discriminator_rate if name == "discriminator" else 1.0
    return optax.adam(config.learning_rate * multiple, b1=config.beta1, b2=BETA2)


def create(config: GanConfig) -> GanState:
    """Returns the state before the first step."""
    params = model.init(
        config, random_keys.stream_key(config.seed, random_keys.Stream.GAN_PARAMETERS)
    )
    generator, discriminator = (
        Part(params[name], None, optimiser(config, name).init(params[name])) for name in NAMES
    )
    if config.ema_decay:
        generator = generator._replace(average=jax.tree.map(jnp.copy, generator.params))
    vectors = spectral.init(discriminator.params)
    step, skipped = (jnp.zeros((), jnp.int32) for _ in range(2))
    return GanState(generator, discriminator, vectors, step, skipped)


def template(config: GanConfig) -> GanState:
    """Returns the shapes and types of a run's state, without computing one."""
    return jax.eval_shape(lambda: create(config))


def best_params(state: GanState) -> Params:
    """Returns the parameters to sample from: the generator's average if it has one."""
    generator = state.generator
    return generator.params if generator.average is None else generator.average


def _normalised(config: GanConfig, params: Params, vectors: spectral.Vectors) -> Params:
    return spectral.normalise(params, vectors) if config.objective == "r1" else params


def penalty(config: GanConfig, params: Params, real: Videos, labels: Array) -> Array:
    """Returns the mean of |grad D|^2 over real videos, with respect to pixels in [-1, 1]."""
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
    """Returns the discriminator's loss, and what to log.

    The loss is the cross entropy of real against generated videos (Goodfellow et al. 2014), plus
    the R1 penalty with --objective=r1.
    """
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
    """Returns the non-saturating loss -log D(G(z)), and statistics of the videos (Figure 7)."""
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
    """Takes a step of the discriminator, then one of the generator; the body of an `on_devices`.

    Steps with a loss or gradient that is non-finite on any device are skipped and counted.

    Returns:
        The next state, and metrics by model, averaged over devices.
    """
    real = model.from_pixels(batch.video)
    discriminator_keys, generator_keys = (
        random_keys.example_keys(config.seed, state.step, batch.example, stream)
        for stream in (random_keys.Stream.GAN_DISCRIMINATOR, random_keys.Stream.GAN_GENERATOR)
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

    fake = model.generate(config, state.generator.params, discriminator_keys, batch.label)
    discriminator = updated(
        "discriminator",
        state.discriminator,
        lambda p: discriminator_loss(config, p, vectors, real, fake, batch.label),
    )
    judge = _normalised(config, discriminator.params, vectors)
    generator = updated(
        "generator",
        state.generator,
        lambda p: generator_loss(config, p, judge, generator_keys, batch.label),
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
