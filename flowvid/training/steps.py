"""A training step, which skips what is not finite; the body of a `pmap`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jaxtyping import PyTree

from flowvid.config.schema import Config
from flowvid.parallel.devices import mean_over_devices
from flowvid.training.train_state import ModelState, next_average
from flowvid.video.frames import Batch


def changed_if(condition: Array, change: Callable[[], PyTree], state: PyTree) -> PyTree:
    """`change()`, a next state, where the scalar `condition` holds; else `state`.

    On CPU as a branch: inside one, XLA writes Adam's moments and the parameters over the old ones,
    where a selection has it copy them first. On an accelerator the host would have to wait for the
    condition.
    """

    def branch() -> PyTree:
        return lax.cond(condition, change, lambda: state)

    def selection() -> PyTree:
        return jax.tree.map(lambda new, old: jnp.where(condition, new, old), change(), state)

    return lax.platform_dependent(cpu=branch, default=selection)


def parts(tree: dict[str, Any]) -> dict[str, Any]:
    """Returns the parts of a model's parameters: "flow", and those of "context" by their names."""
    return {"flow": tree["flow"], **tree["context"]}


def train_step(
    config: Config,
    loss: Callable[..., tuple[Any, Any]],
    optimiser: optax.GradientTransformation,
    clip: float,
    state: ModelState,
    batch: Batch,
) -> tuple[ModelState, dict[str, Array]]:
    """One step of Adam; the body of a `pmap` over `DEVICES`.

    A step whose loss or gradient is not finite on any device changes nothing and is counted.

    Args:
        config: the run's.
        loss: (config, params, batch, step) -> (bits per dimension, logs).
        optimiser: clips at `clip`, too.
        clip: the gradient norm above which a step counts as clipped.
        state: before the step.
        batch: this device's share.

    Returns:
        The next state, and metrics averaged over devices: those of the loss, "gradient_norm" (in
        all, before clipping) and "gradient_norm/<part>", and the state's counters "skipped",
        "skipped_in_a_row" and "clipped".
    """
    (value, logs), gradients = jax.value_and_grad(
        lambda params: loss(config, params, batch, state.step), has_aux=True
    )(state.params)
    value, logs, gradients = mean_over_devices((value, logs, gradients))
    norm = optax.tree.norm(gradients)
    finite = jnp.isfinite(value) & jnp.isfinite(norm)

    def moved() -> PyTree:
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return params, next_average(config, state.average, params, state.step), opt_state

    params, average, opt_state = changed_if(
        finite, moved, (state.params, state.average, state.opt_state)
    )
    counters = {
        "skipped": state.skipped + jnp.where(finite, 0, 1),
        "skipped_in_a_row": jnp.where(finite, 0, state.skipped_in_a_row + 1),
        "clipped": state.clipped + jnp.where(finite & (norm > clip), 1, 0),
    }
    logs |= {"gradient_norm": norm}
    logs |= {f"gradient_norm/{part}": optax.tree.norm(g) for part, g in parts(gradients).items()}
    next_state = ModelState(params, average, opt_state, state.step + 1, **counters)
    return next_state, logs | counters
