"""Saves and restores the checkpoints of a run that trains."""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from flowvid.config import config_file
from flowvid.errors import ConfigError, TrainingError
from flowvid.parallel import processes
from flowvid.training.checkpoints.reading import newest, read_config_of
from flowvid.training.checkpoints.run_state import Saved

KEEP = 3  # of the last checkpoints

S = TypeVar("S", bound=Saved)


class _LastAndBest:
    """Orbax's preservation policy: the last few, the best one, and the one to go back to."""

    def __init__(self) -> None:
        self.pinned: set[int] = set()

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        oldest = max(len(checkpoints) - KEEP, 0)
        return [i >= oldest or c.step in self.pinned for i, c in enumerate(checkpoints)]


class Checkpoints:
    """The checkpoints of a run, in `workdir`/checkpoints; every process calls every method.

    The last `KEEP` and the one of the best validation are kept. Each holds the run's state and its
    configuration, and is written to a folder of another name, which is renamed when all is there:
    a run that is killed while it saves leaves no half of one.
    """

    def __init__(self, workdir: pathlib.Path, config: Any, label_names: tuple[str, ...]) -> None:
        self.directory = (workdir / "checkpoints").absolute()
        self._description = config_file.to_dict(config, label_names)
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
            self._refuse_another(read_config_of(self._manager, step))
            items = ocp.args.Composite(state=ocp.args.StandardRestore(host))
            run: S = self._manager.restore(step, args=items)["state"]
            if not usable(run):
                raise ValueError("training does not go back to it")
            return run

        found = newest(self._manager, read)
        if found is None:
            return None
        run, step = found
        newer = [s for s in self.steps() if s > step]
        if newer and processes.is_first():
            for s in newer:
                _set_aside(self.directory, s)
        if newer:
            processes.wait("damaged checkpoints are moved")
            self._manager.reload()
        return run

    def _refuse_another(self, found: dict[str, Any]) -> None:
        config_file.check_version(found, f"the checkpoints in {self.directory}")
        differing = config_file.differences(found, self._description)
        if differing:
            named = ", ".join(
                f"{name} ({there} there, {here} here)" for name, (there, here) in differing.items()
            )
            raise ConfigError(
                f"the checkpoints in {self.directory} are of another configuration: {named}. Use "
                "another --workdir, or give that run its own configuration."
            )

    def _check_space(self, run: Saved) -> None:
        """Raises an OSError where the disk cannot hold `run`, before Orbax fills it and fails."""
        needed = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(run))
        if processes.is_first() and shutil.disk_usage(self.directory).free < needed:
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


def _set_aside(directory: pathlib.Path, step: int) -> None:
    place = directory.parent / "damaged"
    place.mkdir(exist_ok=True)
    target, count = place / str(step), 1
    while target.exists():  # the step was damaged before
        count += 1
        target = place / f"{step}-{count}"
    (directory / str(step)).rename(target)
