"""The train state of a model, and its optimiser."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from flowvid.arrays import Params
from flowvid.config.schema import Config


class ModelState(NamedTuple):
    """Everything that a step of training changes in one model (the head or the tail)."""

    params: Params
    average: Params | None  # of the parameters over the steps, where config.ema_decay asks for it
    opt_state: optax.OptState
    step: Array  # scalar int32: steps taken, skipped ones included
    skipped: Array  # scalar int32: steps whose loss or gradient was not finite
    skipped_in_a_row: Array  # scalar int32: of these, the last ones without another between
    clipped: Array  # scalar int32: steps whose gradient was clipped


def is_constant(path: jax.tree_util.KeyPath) -> bool:
    """Whether a leaf of the parameters lies under a "constants" key, out of training's reach."""
    return any(getattr(entry, "key", None) == "constants" for entry in path)


def num_parameters(params: Params) -> int:
    """Trainable numbers in `params`; the 1x1 convolution's P and signs are not among them."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return sum(leaf.size for path, leaf in leaves if not is_constant(path))


def learning_rate(config: Config) -> optax.Schedule:
    """A linear warm-up from its first step on, then a constant, or a cosine to zero at the end."""
    first = config.learning_rate / max(config.warmup_steps, 1)
    warmup = optax.linear_schedule(first, config.learning_rate, config.warmup_steps - 1)
    if config.schedule == "constant":
        after = optax.constant_schedule(config.learning_rate)
    else:
        decay_steps = max((config.num_steps or 0) - config.warmup_steps, 1)
        after = optax.cosine_decay_schedule(config.learning_rate, decay_steps)
    return optax.join_schedules([warmup, after], [config.warmup_steps])


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """What `optax.clip_by_global_norm` does, as one factor for all gradients.

    Optax divides each of them, and XLA writes quotients of the size of all parameters; a product
    it fuses into Adam.
    """
    return optax.stateless(
        lambda gradients, _: optax.tree.scale(
            jnp.minimum(1.0, limit / optax.tree.norm(gradients)), gradients
        )
    )


def optimizer(config: Config, clip: float) -> optax.GradientTransformation:
    """Adam after clipping by global norm (paper, section IX); constants are not touched."""

    def labels(params: Params) -> Params:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "constant" if is_constant(path) else "trained", params
        )

    trained = optax.chain(clip_by_global_norm(clip), optax.adam(learning_rate(config)))
    return optax.partition({"trained": trained, "constant": optax.set_to_zero()}, labels)


def create(config: Config, params: Params, optimiser: optax.GradientTransformation) -> ModelState:
    """The state before the first step."""
    average = jax.tree.map(jnp.copy, params) if config.ema_decay else None
    zeros = (jnp.zeros((), jnp.int32) for _ in range(4))
    return ModelState(params, average, optimiser.init(params), *zeros)


def next_average(config: Config, average: Params | None, params: Params, step: Array) -> Params:
    """The moving average of the parameters after one more step; None where not kept."""
    return average if average is None else moving_average(config.ema_decay, average, params, step)


def moving_average(largest_decay: float, average: Params, params: Params, step: Array) -> Params:
    """An exponential moving average of parameters after one more step.

    The decay rises as (1 + step) / (10 + step) to the largest, so that the first steps do not
    weigh for as long as the decay's own memory. An average of LU forms is an LU form: the averaged
    flow is as invertible, and its log-determinant as exact, as any. Constants stay as they are, in
    every bit.
    """
    decay = jnp.minimum(largest_decay, (1 + step) / (10 + step))
    moved = optax.incremental_update(params, average, 1 - decay)
    return jax.tree_util.tree_map_with_path(
        lambda path, kept, new: kept if is_constant(path) else new, average, moved
    )


def eval_params(state: ModelState) -> Params:
    """What is evaluated and sampled from: the average where there is one, else the parameters."""
    return state.params if state.average is None else state.average
