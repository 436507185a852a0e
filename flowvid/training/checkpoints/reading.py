"""Reads a run from its folder, in which it may be training at this moment: nothing is changed."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jaxtyping import PyTree

from flowvid.config import config_file
from flowvid.config.schema import Config
from flowvid.errors import ConfigError, TrainingError
from flowvid.video.joint import params_template
from flowvid.video.model import Model


def load(workdir: str | pathlib.Path, *, checkpoint: str = "last", average: bool = True) -> Model:
    """The model of a run.

    Args:
        workdir: the run's folder.
        checkpoint: "last", "best" (of the validations during training), or the number of a step.
        average: whether to take the moving average of the parameters, where the run keeps one.

    Raises:
        ConfigError: when `workdir` holds no run, or no such checkpoint.
        TrainingError: when none of its checkpoints can be read.
    """
    workdir = pathlib.Path(workdir)
    config, label_names = read_config(workdir)
    averaged = average and config.ema_decay > 0
    params, step = restore_params(
        workdir, params_template(config), checkpoint=checkpoint, average=averaged
    )
    return Model(config, label_names, jax.tree.map(jnp.asarray, params), step, averaged)


@contextlib.contextmanager
def _reader(workdir: pathlib.Path) -> Iterator[ocp.CheckpointManager]:
    directory = (workdir / "checkpoints").absolute()
    options = ocp.CheckpointManagerOptions(create=False)
    with ocp.CheckpointManager(directory, options=options) as manager:
        yield manager


def read_config_of(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """Returns the configuration that the checkpoint of a step holds, as `to_dict` made it."""
    items = ocp.args.Composite(config=ocp.args.JsonRestore())
    saved: dict[str, Any] = manager.restore(step, args=items)["config"]
    return saved


def find_config(workdir: pathlib.Path) -> tuple[Config, tuple[str, ...]] | None:
    """A run's configuration and labels: config.json, or where that is lost, a checkpoint's.

    None when there is no run in `workdir`.

    Raises:
        ConfigError: when config.json cannot be used.
        TrainingError: when there are checkpoints alone, and none can be read.
    """
    if (workdir / "config.json").exists():
        return config_file.read(workdir)
    if not (workdir / "checkpoints").is_dir():
        return None
    with _reader(workdir) as manager:
        found = newest(manager, lambda step: read_config_of(manager, step))
    return None if found is None else config_file.from_dict(found[0], f"the run in {workdir}")


def read_config(workdir: pathlib.Path) -> tuple[Config, tuple[str, ...]]:
    """What `find_config` finds.

    Raises:
        ConfigError: when there is no run in `workdir`; and as `find_config` does.
    """
    found = find_config(workdir)
    if found is None:
        raise ConfigError(
            f"{workdir} holds no run: train one with `python -m flowvid.train --workdir={workdir}`,"
            " or give the --workdir of another."
        )
    return found


def restore_params(
    workdir: pathlib.Path,
    template: PyTree,
    *,
    checkpoint: str = "last",
    average: bool = False,
) -> tuple[PyTree, int]:
    """Parameters, by the models' names, of a checkpoint of a run, and its step.

    Args:
        workdir: the run's.
        template: parameters of the same structure and shapes.
        checkpoint: "last", the newest that can be read; "best", the one of the best validation; or
            the number of its step.
        average: whether to read the moving average of the parameters in their stead.

    Raises:
        ConfigError: when the run has no such checkpoint.
        TrainingError: when there are checkpoints, but none can be read.
    """
    field = "average" if average else "params"
    wanted = {name: {field: params} for name, params in template.items()}

    def read(step: int) -> PyTree:
        restored = _read_partly(manager, step, wanted)
        return {name: restored[name][field] for name in template}

    if not (workdir / "checkpoints").is_dir():
        raise _none_yet(workdir)
    with _reader(workdir) as manager:
        if checkpoint == "last":
            found = newest(manager, read)
            if found is None:
                raise _none_yet(workdir)
            return found
        saved = sorted(manager.all_steps())
        if checkpoint == "best":
            step = _best_step(manager, workdir)
        elif checkpoint.isdecimal():
            step = int(checkpoint)
        else:
            raise ConfigError(f"--checkpoint={checkpoint} is unknown: use last, best or a step.")
        if step not in saved:
            raise ConfigError(
                f"{workdir} holds no checkpoint of step {step}: use last, best or one of "
                f"{', '.join(map(str, saved))}."
            )
        try:
            return read(step), step
        except Exception as error:  # whatever the damage makes Orbax and TensorStore raise
            raise TrainingError(
                f"the checkpoint of step {step} in {workdir} cannot be read: {error}"
            ) from error


def saved_steps(workdir: pathlib.Path) -> list[int]:
    """The steps that a run has saved, in order.

    Raises:
        ConfigError: when there are none.
    """
    if (workdir / "checkpoints").is_dir():
        with _reader(workdir) as manager:
            if saved := sorted(manager.all_steps()):
                return saved
    raise _none_yet(workdir)


def _best_step(manager: ocp.CheckpointManager, workdir: pathlib.Path) -> int:
    wanted = {"best_step": np.zeros((), np.int64)}
    found = newest(manager, lambda step: int(_read_partly(manager, step, wanted)["best_step"]))
    if found is None:
        raise _none_yet(workdir)
    if found[0] < 0:
        raise ConfigError(
            f"{workdir} has had no validation, so there is no best checkpoint: use the last."
        )
    return found[0]


def _read_partly(manager: ocp.CheckpointManager, step: int, wanted: PyTree) -> PyTree:
    host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), wanted)
    how = ocp.args.PyTreeRestore(host, partial_restore=True)
    return manager.restore(step, args=ocp.args.Composite(state=how))["state"]


def _none_yet(workdir: pathlib.Path) -> ConfigError:
    return ConfigError(
        f"{workdir} holds no checkpoint yet: let `python -m flowvid.train --workdir={workdir}` run "
        "until it has saved one."
    )


def newest(manager: ocp.CheckpointManager, read: Callable[[int], Any]) -> tuple[Any, int] | None:
    """What `read` makes of the newest step that it can read, and that step; warns of the others.

    Raises:
        TrainingError: when there are checkpoints, but none can be read.
    """
    newest_first = sorted(manager.all_steps(), reverse=True)
    for step in newest_first:
        try:
            return read(step), step
        except ConfigError:
            raise
        except Exception as error:  # whatever the damage makes Orbax and TensorStore raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            logging.warning(
                "The checkpoint of step %d in %s cannot be used (%s); trying the one before.",
                step,
                manager.directory,
                reason,
            )
    if newest_first:
        raise TrainingError(
            f"none of the {len(newest_first)} checkpoints in {manager.directory} can be used: they "
            "are damaged, or of another version. Use another --workdir."
        )
    return None
