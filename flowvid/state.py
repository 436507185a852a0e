"""The train state of a model, and its optimiser."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from flowvid.bijectors.base import Params
from flowvid.config import Config


class ModelState(NamedTuple):
    """Everything that a step of training changes in one model (the head or the tail)."""

    params: Params
    opt_state: optax.OptState
    step: Array  # scalar int32: steps taken, skipped ones included
    skipped: Array  # scalar int32: steps whose loss or gradient was not finite


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


def optimizer(config: Config, clip: float) -> optax.GradientTransformation:
    """Adam after clipping by global norm (paper, section IX); constants are not touched."""

    def labels(params: Params) -> Params:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "constant" if is_constant(path) else "trained", params
        )

    trained = optax.chain(optax.clip_by_global_norm(clip), optax.adam(learning_rate(config)))
    return optax.partition({"trained": trained, "constant": optax.set_to_zero()}, labels)


def create(params: Params, optimiser: optax.GradientTransformation) -> ModelState:
    """The state before the first step."""
    zero = jnp.zeros((), jnp.int32)
    return ModelState(params, optimiser.init(params), zero, zero)
