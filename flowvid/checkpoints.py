"""Orbax checkpoints of a run: what is saved, where, and how it comes back."""

import pathlib
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from flowvid.errors import ConfigError
from flowvid.state import ModelState


class RunState(NamedTuple):
    """Everything that a run needs to go on as if it had never stopped."""

    head: ModelState
    tail: ModelState | None  # None in a run of the head alone
    step: np.ndarray  # scalar int64: steps done
    examples: np.ndarray  # scalar int64: examples read, over all hosts; the data position


def manager(workdir: pathlib.Path, keep: int = 3) -> ocp.CheckpointManager:
    """The checkpoints of a run, in `workdir`/checkpoints: the last `keep`, saved asynchronously."""
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
    return ocp.CheckpointManager((workdir / "checkpoints").absolute(), options=options)


def save(checkpoints: ocp.CheckpointManager, state: RunState) -> None:
    """Saves a state that lies on the host; every process calls it. Returns before it is written."""
    step = int(state.step)
    if step not in checkpoints.all_steps():
        checkpoints.save(step, args=ocp.args.StandardSave(state))


def restore(checkpoints: ocp.CheckpointManager, template: RunState) -> RunState | None:
    """The newest checkpoint as host arrays, or None when there is none.

    Args:
        checkpoints: the run's.
        template: a state of the same structure and shapes (arrays or `jax.ShapeDtypeStruct`).
    """
    step = checkpoints.latest_step()
    if step is None:
        return None
    host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template)
    return checkpoints.restore(step, args=ocp.args.StandardRestore(host))


def restore_params(workdir: pathlib.Path, template: PyTree) -> tuple[PyTree, int]:
    """Parameters, by the models' names, of the newest checkpoint, and its step.

    Args:
        workdir: the run's.
        template: parameters of the same structure and shapes.

    Raises:
        ConfigError: when the run has no checkpoint yet.
    """
    with manager(workdir) as checkpoints:
        step = checkpoints.latest_step()
        if step is None:
            raise ConfigError(
                f"{workdir} holds no checkpoint yet: let `python -m flowvid.train "
                f"--workdir={workdir}` run until it has saved one."
            )
        wanted = {name: {"params": params} for name, params in template.items()}
        host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), wanted)
        restored = checkpoints.restore(
            step, args=ocp.args.PyTreeRestore(host, partial_restore=True)
        )
    return {name: restored[name]["params"] for name in template}, step
