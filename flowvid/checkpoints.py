"""Orbax checkpoints of a run: what is saved, where, and how it comes back."""

import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jaxtyping import PyTree

from flowvid.errors import ConfigError, TrainingError
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
    """The newest readable checkpoint as host arrays, or None when there is none at all.

    Newer ones that cannot be read are reported, and moved to the folder `damaged` of the
    run, so that training can save their steps again.

    Args:
        checkpoints: the run's.
        template: a state of the same structure and shapes (arrays or `jax.ShapeDtypeStruct`).

    Raises:
        TrainingError: when there are checkpoints, but none can be read.
    """
    host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template)
    found = _newest_readable(checkpoints, ocp.args.StandardRestore(host))
    if found is None:
        return None
    run, read = found
    damaged = [step for step in checkpoints.all_steps() if step > read]
    for step in damaged if jax.process_index() == 0 else ():
        _set_aside(checkpoints.directory, step)
    if damaged:
        checkpoints.reload()
    return run


def _newest_readable(checkpoints: ocp.CheckpointManager, how: Any) -> tuple[Any, int] | None:
    """What the newest readable checkpoint holds, and its step; warns of those that cannot be read.

    Raises:
        TrainingError: when there are checkpoints, but none can be read.
    """
    newest_first = sorted(checkpoints.all_steps(), reverse=True)
    for step in newest_first:
        try:
            return checkpoints.restore(step, args=how), step
        except Exception as error:  # whatever the damage makes Orbax and TensorStore raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            logging.warning(
                "The checkpoint of step %d in %s cannot be read (%s); trying the one before.",
                step,
                checkpoints.directory,
                reason,
            )
    if newest_first:
        raise TrainingError(
            f"none of the {len(newest_first)} checkpoints in {checkpoints.directory} can be read: "
            "they are damaged, or of another version. Use another --workdir."
        )
    return None


def _set_aside(directory: epath.Path, step: int) -> None:
    place = directory.parent / "damaged"
    place.mkdir(exist_ok=True)
    target, count = place / str(step), 1
    while target.exists():  # the step was damaged before
        count += 1
        target = place / f"{step}-{count}"
    (directory / str(step)).rename(target)


def restore_params(workdir: pathlib.Path, template: PyTree) -> tuple[PyTree, int]:
    """Parameters, by the models' names, of the newest readable checkpoint, and its step.

    Args:
        workdir: the run's.
        template: parameters of the same structure and shapes.

    Raises:
        ConfigError: when the run has no checkpoint yet.
        TrainingError: when there are checkpoints, but none can be read.
    """
    with manager(workdir) as checkpoints:
        wanted = {name: {"params": params} for name, params in template.items()}
        host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), wanted)
        how = ocp.args.PyTreeRestore(host, partial_restore=True)
        found = _newest_readable(checkpoints, how)
    if found is None:
        raise ConfigError(
            f"{workdir} holds no checkpoint yet: let `python -m flowvid.train "
            f"--workdir={workdir}` run until it has saved one."
        )
    restored, step = found
    return {name: restored[name]["params"] for name in template}, step
