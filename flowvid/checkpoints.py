"""Orbax checkpoints of a run: what is saved, where, and how it comes back."""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jaxtyping import PyTree

from flowvid import config as config_lib
from flowvid import distributed
from flowvid.config import Config
from flowvid.errors import ConfigError, TrainingError
from flowvid.state import ModelState

KEEP = 3  # of the last checkpoints


class RunState(NamedTuple):
    """Everything that a run needs to go on as if it had never stopped; counts are scalar int64."""

    head: ModelState
    tail: ModelState | None  # None in a run of the head alone
    step: np.ndarray  # steps done
    examples: np.ndarray  # read, over all hosts; the data position
    restore_step: np.ndarray  # of the checkpoint to go back to when steps are not finite
    restores: np.ndarray  # since that checkpoint was saved
    validated_step: np.ndarray  # of the last validation; -1 before any
    best_step: np.ndarray  # of the best validation; -1 before any
    best_bits_per_dim: np.ndarray  # scalar float64: of that validation, over all frames


def is_restore_point(run: RunState) -> bool:
    """Whether a run may go back to this checkpoint: its last step was finite, and it was due.

    One that a signal has saved is none: a run that was never stopped does not have it, and both
    must end in the same parameters.
    """
    return int(run.restore_step) == int(run.step)


class _LastAndBest:
    """Orbax's preservation policy: the last few, the best one, and the one to go back to."""

    def __init__(self) -> None:
        self.pinned: set[int] = set()

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        oldest = max(len(checkpoints) - KEEP, 0)
        return [i >= oldest or c.step in self.pinned for i, c in enumerate(checkpoints)]


@runtime_checkable
class Saved(Protocol):
    """What a checkpoint holds, a tree of arrays."""

    @property
    def step(self) -> Any:
        """Steps done."""

    @property
    def best_step(self) -> Any:
        """The step of another checkpoint to keep; -1: none."""

    @property
    def restore_step(self) -> Any:
        """The step of one more; -1: none."""


S = TypeVar("S", bound=Saved)


class Checkpoints:
    """The checkpoints of a run, in `workdir`/checkpoints; every process calls every method.

    The last `KEEP` and the one of the best validation are kept. Each holds the run's state and its
    configuration, and is written to a folder of another name, which is renamed when all is there:
    a run that is killed while it saves leaves no half of one.
    """

    def __init__(self, workdir: pathlib.Path, config: Any, label_names: tuple[str, ...]) -> None:
        self.directory = (workdir / "checkpoints").absolute()
        self._description = config_lib.to_dict(config, label_names)
        self._policy = _LastAndBest()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._policy, create=True, cleanup_tmp_directories=True
        )
        with self._full_disk_told():
            self._manager = ocp.CheckpointManager(self.directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            with self._full_disk_told():
                self._manager.close()
            return
        with contextlib.suppress(Exception):  # what is raised already says more
            self._manager.close()

    def save(self, run: Saved) -> None:
        """Saves a state that lies on the host, unless its step is saved; returns before it is.

        Raises:
            TrainingError: when the disk is full, of this checkpoint or the one before.
        """
        step = int(run.step)
        if step in self.steps():
            return
        self._policy.pinned = {int(run.best_step), int(run.restore_step)}
        with self._full_disk_told():
            self._check_space(run)
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(run), config=ocp.args.JsonSave(self._description)
                ),
            )

    def check(self) -> None:
        """Raises what went wrong with the checkpoint that is being written, as `save` does."""
        with self._full_disk_told():
            self._manager.check_for_errors()

    def wait(self) -> None:
        """Returns once all is written; raises as `save` does."""
        with self._full_disk_told():
            self._manager.wait_until_finished()

    def steps(self) -> list[int]:
        """The steps that are saved, in order."""
        return sorted(self._manager.all_steps())

    def restore(self, template: S, usable: Callable[[S], bool] = lambda _: True) -> S | None:
        """The newest readable and `usable` checkpoint as host arrays, or None when there is none.

        Newer ones are reported, and moved to the folder `damaged` of the run, so that training can
        save their steps again.

        Args:
            template: a state of the same structure and shapes (arrays or `jax.ShapeDtypeStruct`).
            usable: says which of those that can be read will do.

        Raises:
            ConfigError: when the checkpoints are of another configuration, naming the fields.
            TrainingError: when there are checkpoints, but none can be used.
        """
        self.wait()
        host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template)

        def read(step: int) -> S:
            saved = _read_config(self._manager, step)
            self._refuse_another(saved)
            items = ocp.args.Composite(state=ocp.args.StandardRestore(host))
            run: S = self._manager.restore(step, args=items)["state"]
            if not usable(run):
                raise ValueError("training does not go back to it")
            return run

        found = _newest(self._manager, read)
        if found is None:
            return None
        run, step = found
        newer = [s for s in self.steps() if s > step]
        if newer and distributed.is_first():
            for s in newer:
                _set_aside(self.directory, s)
        if newer:
            distributed.wait("damaged checkpoints are moved")
            self._manager.reload()
        return run

    def _refuse_another(self, saved: dict[str, Any]) -> None:
        differing = config_lib.differences(saved, self._description)
        if differing:
            named = ", ".join(
                f"{name} ({saved.get(name)} there, {self._description.get(name)} here)"
                for name in differing
            )
            raise ConfigError(
                f"the checkpoints in {self.directory} are of another configuration: {named}. Use "
                "another --workdir, or give that run its own configuration."
            )

    def _check_space(self, run: Saved) -> None:
        """Raises an OSError where the disk cannot hold `run`, before Orbax fills it and fails."""
        needed = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(run))
        if distributed.is_first() and shutil.disk_usage(self.directory).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.directory))

    @contextlib.contextmanager
    def _full_disk_told(self) -> Iterator[None]:
        """Turns what Orbax and TensorStore raise when the disk is full into a TrainingError."""
        try:
            yield
        except Exception as error:
            if not _is_full_disk(error):
                raise
            raise TrainingError(
                f"no space is left on the disk of {self.directory}, so the last checkpoint could "
                "not be saved; those before it are whole. Make room, and the same command goes on "
                "from there."
            ) from error


def _is_full_disk(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says so; TensorStore's only do in words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error) or "quota exceeded" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


def _newest(manager: ocp.CheckpointManager, read: Callable[[int], Any]) -> tuple[Any, int] | None:
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


def _set_aside(directory: pathlib.Path, step: int) -> None:
    place = directory.parent / "damaged"
    place.mkdir(exist_ok=True)
    target, count = place / str(step), 1
    while target.exists():  # the step was damaged before
        count += 1
        target = place / f"{step}-{count}"
    (directory / str(step)).rename(target)


# Reading a run that may be training at this moment: nothing in its folder is touched.


@contextlib.contextmanager
def _reader(workdir: pathlib.Path) -> Iterator[ocp.CheckpointManager]:
    directory = (workdir / "checkpoints").absolute()
    options = ocp.CheckpointManagerOptions(create=False)
    with ocp.CheckpointManager(directory, options=options) as manager:
        yield manager


def _read_config(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
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
        return config_lib.read(workdir)
    if not (workdir / "checkpoints").is_dir():
        return None
    with _reader(workdir) as manager:
        found = _newest(manager, lambda step: _read_config(manager, step))
    return None if found is None else config_lib.from_dict(found[0])


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
            found = _newest(manager, read)
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
    found = _newest(manager, lambda step: int(_read_partly(manager, step, wanted)["best_step"]))
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
