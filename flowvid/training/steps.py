"""A training step, which skips non-finite losses and gradients; the body of a `pmap`."""

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
    """Returns `change()`, the next state, if the scalar `condition` holds, else `state`.

    On CPU this is a branch, in which XLA overwrites Adam's moments and the parameters in place; for
    a selection it copies them first. On an accelerator the host would have to wait for the
    condition of a branch, so there it is a selection.
    """

    def branch() -> PyTree:
        return lax.cond(condition, change, lambda: state)

    def selection() -> PyTree:
        return jax.tree.map(lambda new, old: jnp.where(condition, new, old), change(), state)

    return lax.platform_dependent(cpu=branch, default=selection)


def parts(tree: dict[str, Any]) -> dict[str, Any]:
    """Returns the parts of a model's parameters: "flow", and the parts of "context" by name."""
    return {"flow": tree["flow"], **tree["context"]}


def train_step(
    config: Config,
    loss: Callable[..., tuple[Any, Any]],
    optimiser: optax.GradientTransformation,
    clip: float,
    state: ModelState,
    batch: Batch,
) -> tuple[ModelState, dict[str, Array]]:
    """Takes one step of Adam; the body of a `pmap` over `DEVICES`.

    A step with a non-finite loss or gradient on any device leaves the parameters and the optimizer
    state unchanged, and is counted.

    Args:
        config: the configuration of the run.
        loss: (config, params, batch, step) -> (bits per dimension, logs).
        optimiser: clips gradients at the norm `clip`.
        clip: the gradient norm above which a step counts as clipped.
        state: the state before the step.
        batch: this device's share of the batch.

    Returns:
        The next state, and metrics averaged over devices: the logs of the loss, "gradient_norm" of
        the whole gradient before clipping, "gradient_norm/<part>", and the counters "skipped",
        "skipped_in_a_row" and "clipped" of the state.
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
