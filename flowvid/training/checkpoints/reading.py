"""Reads a run from its folder, where it may be training at this moment; changes nothing there."""

import contextlib
import math
import pathlib
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jaxtyping import PyTree

from flowvid import paths
from flowvid.config import config_file, dataset_names
from flowvid.config.schema import Config
from flowvid.errors import ConfigError, TrainingError
from flowvid.video.joint import params_template
from flowvid.video.model import Model


def load(workdir: str | pathlib.Path, *, checkpoint: str = "last", average: bool = True) -> Model:
    """Loads the model of a run.

    Args:
        workdir: the run's folder.
        checkpoint: "last", "best" (by the validations during training), or the number of a step.
        average: whether to use the moving average of the parameters, where the run keeps one.

    Raises:
        ConfigError: if `workdir` holds no run, or no such checkpoint.
        TrainingError: if none of its checkpoints can be read.
    """
    workdir = paths.expand(workdir)
    config, label_names = read_config(workdir)
    averaged = average and config.ema_decay > 0
    params, step = restore_params(
        workdir, params_template(config), checkpoint=checkpoint, average=averaged
    )
    return Model(config, label_names, jax.tree.map(jnp.asarray, params), step, averaged)


class Manager(ocp.CheckpointManager):
    """Orbax's checkpoint manager, which also opens folders with damaged metrics."""

    def metrics(self, step: int) -> Any:
        """Returns the metrics of a checkpoint, or None if they are missing or damaged."""
        try:
            return super().metrics(step)
        except ValueError:  # not JSON
            return None


def options(**changes: Any) -> ocp.CheckpointManagerOptions:
    """Returns the options of a run's manager, which ranks checkpoints by their validations."""
    return ocp.CheckpointManagerOptions(best_fn=validation_bits, best_mode="min", **changes)


def validation_bits(metrics: dict[str, Any]) -> float:
    """Returns the bits per dimension of a checkpoint's validation, by which it is ranked.

    A checkpoint without a validation, or with a non-finite one, ranks last, with infinity.
    """
    bits = metrics.get("bits_per_dim")
    return float(bits) if bits is not None and math.isfinite(bits) else math.inf


@contextlib.contextmanager
def _reader(workdir: pathlib.Path) -> Iterator[Manager]:
    directory = (workdir / "checkpoints").absolute()
    with Manager(directory, options=options(create=False)) as manager:
        yield manager


def read_config_of(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """Returns the configuration in the checkpoint of a step, as `config_file.to_dict` made it."""
    items = ocp.args.Composite(config=ocp.args.JsonRestore())
    saved: dict[str, Any] = manager.restore(step, args=items)["config"]
    return saved


def find_config(workdir: str | pathlib.Path) -> tuple[Config, tuple[str, ...]] | None:
    """Returns a run's configuration and labels, or None if there is no run in `workdir`.

    They are read from config.json, or from the newest readable checkpoint if that file is missing.

    Raises:
        ConfigError: if the configuration cannot be used.
        TrainingError: if there is no config.json and none of the checkpoints can be read.
    """
    workdir = paths.expand(workdir)
    if (workdir / "config.json").exists():
        return config_file.read(workdir)
    if not (workdir / "checkpoints").is_dir():
        return None
    with _reader(workdir) as manager:
        found = newest(manager, lambda step: read_config_of(manager, step))
    if found is None:
        return None
    return config_file.from_dict(dataset_names.of_run(found[0], workdir), f"the run in {workdir}")


def read_config(workdir: str | pathlib.Path) -> tuple[Config, tuple[str, ...]]:
    """Returns a run's configuration and labels, as `find_config` does.

    Raises:
        ConfigError: if there is no run in `workdir`, or its configuration cannot be used.
        TrainingError: if there is no config.json and none of the checkpoints can be read.
    """
    found = find_config(workdir)
    if found is None:
        quoted = shlex.quote(str(workdir))
        raise ConfigError(
            f"{workdir} holds no run: train one with `python -m flowvid.train --workdir={quoted}`,"
            " or use another --workdir."
        )
    return found


def restore_params(
    workdir: pathlib.Path,
    template: PyTree,
    *,
    checkpoint: str = "last",
    average: bool = False,
) -> tuple[PyTree, int]:
    """Returns the parameters of a checkpoint, by the models' names, and its step.

    Args:
        workdir: the run's folder.
        template: parameters of the same structure and shapes.
        checkpoint: "last", the newest one that can be read; "best", the one with the best
            validation; or the number of a step.
        average: whether to read the moving average of the parameters instead.

    Raises:
        ConfigError: if the run has no such checkpoint.
        TrainingError: if the checkpoint cannot be read, or none of them.
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
        step = _step_of(manager, workdir, checkpoint)
        try:
            return read(step), step
        except Exception as error:  # whatever the damage makes Orbax and TensorStore raise
            failed = error
    if checkpoint == "best" and step not in saved_steps(workdir):
        # A run that trains has just saved a better one and deleted this one.
        return restore_params(workdir, template, checkpoint=checkpoint, average=average)
    raise TrainingError(
        f"the checkpoint of step {step} in {workdir} cannot be read: {failed}"
    ) from failed


def saved_steps(workdir: pathlib.Path) -> list[int]:
    """Returns the steps that a run has saved, in order.

    Raises:
        ConfigError: if there are none.
    """
    if (workdir / "checkpoints").is_dir():
        with _reader(workdir) as manager:
            if saved := sorted(manager.all_steps()):
                return saved
    raise _none_yet(workdir)


def _step_of(manager: Manager, workdir: pathlib.Path, checkpoint: str) -> int:
    """Returns the step that `--checkpoint`, other than "last", stands for."""
    saved = sorted(manager.all_steps())
    if checkpoint == "best":
        if not saved:
            raise _none_yet(workdir)
        best = manager.best_step()
        if best is None or math.isinf(validation_bits(manager.metrics(best) or {})):
            raise ConfigError(
                f"no checkpoint in {workdir} has a finite validation, so there is no best one: use "
                "--checkpoint=last."
            )
        return best
    if not checkpoint.isdecimal():
        raise ConfigError(f"--checkpoint={checkpoint} is unknown: use last, best or a step.")
    if int(checkpoint) not in saved:
        raise ConfigError(
            f"{workdir} holds no checkpoint of step {checkpoint}: use last, best or one of "
            f"{', '.join(map(str, saved))}."
        )
    return int(checkpoint)


def _read_partly(manager: ocp.CheckpointManager, step: int, wanted: PyTree) -> PyTree:
    host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), wanted)
    how = ocp.args.PyTreeRestore(host, partial_restore=True)
    return manager.restore(step, args=ocp.args.Composite(state=how))["state"]


def _none_yet(workdir: pathlib.Path) -> ConfigError:
    quoted = shlex.quote(str(workdir))
    return ConfigError(
        f"{workdir} holds no checkpoint yet: let `python -m flowvid.train --workdir={quoted}` run "
        "until it has saved one."
    )


def newest(
    manager: ocp.CheckpointManager,
    read: Callable[[int], Any],
    usable: Callable[[Any], bool] = lambda _: True,
) -> tuple[Any, int] | None:
    """Returns what `read` returns for the newest step that can be read, and that step.

    Logs a warning for each newer step that cannot be read.

    Args:
        manager: holds the checkpoints.
        read: reads the checkpoint of a step; may raise anything.
        usable: returns whether to accept what was read, or to try an earlier step.

    Returns:
        None if there are no checkpoints.

    Raises:
        ConfigError: as `read` does.
        TrainingError: if there are checkpoints, but none can be used.
    """
    newest_first = sorted(manager.all_steps(), reverse=True)
    for step in newest_first:
        try:
            value = read(step)
        except ConfigError:
            raise
        except Exception as error:  # whatever the damage makes Orbax and TensorStore raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            logging.warning(
                "The checkpoint of step %d in %s cannot be read (%s); trying the one before.",
                step,
                manager.directory,
                reason,
            )
            continue
        if usable(value):
            return value, step
    if newest_first:
        raise TrainingError(
            f"none of the {len(newest_first)} checkpoints in {manager.directory} can be used: they "
            "are damaged, or of another version of flowvid. Use another --workdir."
        )
    return None
