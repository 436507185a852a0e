"""Saves and restores the checkpoints of a run while it trains."""

import contextlib
import dataclasses
import errno
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from flowvid.config import config_file, dataset_names
from flowvid.errors import ConfigError, TrainingError
from flowvid.parallel import processes
from flowvid.training.checkpoints.reading import (
    Manager,
    newest,
    options,
    read_config_of,
    validation_bits,
)
from flowvid.training.checkpoints.run_state import Checkpointable

KEEP = 3  # restore points

S = TypeVar("S", bound=Checkpointable)


@dataclasses.dataclass
class _LatestRestorePoints:
    """Preserves the last n restore points.

    Orbax's LatestN would also count checkpoints that were saved because of a signal, so that an
    interrupted run would end with other checkpoints than an uninterrupted one.
    """

    n: int

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        points = [c.step for c in checkpoints if c.metrics and c.metrics.get("restore_point")]
        return [c.step in points[-self.n :] for c in checkpoints]


def _preservation_policy() -> policies.AnyPreservationPolicy:
    """Returns Orbax's policy for the checkpoints to keep: see `Checkpoints`."""
    best = policies.BestN(
        get_metric_fn=validation_bits, reverse=True, n=1, keep_checkpoints_without_metrics=False
    )
    return policies.AnyPreservationPolicy([policies.LatestN(1), _LatestRestorePoints(KEEP), best])


class Checkpoints:
    """The checkpoints of a run, in `workdir`/checkpoints; every process calls every method.

    Kept are the newest checkpoint, the last `KEEP` restore points and the checkpoint with the best
    validation. Each holds the run's state, its configuration and, as Orbax's metrics, its
    validation. It is written to a folder with a temporary name, which is renamed when it is
    complete: a run that is killed while it saves leaves no partial checkpoint.
    """

    def __init__(self, workdir: pathlib.Path, config: Any, label_names: tuple[str, ...]) -> None:
        self.directory = (workdir / "checkpoints").absolute()
        self._description = config_file.to_dict(config, label_names)
        how = options(
            preservation_policy=_preservation_policy(), create=True, cleanup_tmp_directories=True
        )
        with self._full_disk_explained():
            self._manager = Manager(self.directory, options=how)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            with self._full_disk_explained():
                self._manager.close()
            return
        with contextlib.suppress(Exception):  # the error that is being raised says more
            self._manager.close()

    def save(
        self,
        state: Checkpointable,
        *,
        bits_per_dim: float | None = None,
        restore_point: bool = True,
        replace: bool = False,
    ) -> None:
        """Starts to save a state, unless its step is saved already; writing ends in the background.

        Args:
            state: on the host.
            bits_per_dim: the result of the validation at this step, or None without one.
            restore_point: whether the run may roll back to this checkpoint.
            replace: whether to replace a checkpoint of the same step.

        Raises:
            TrainingError: if the disk was full, for this checkpoint or for the one before.
        """
        step = int(state.step)
        there = step in self.steps()
        if there and not replace:
            return
        with self._full_disk_explained():
            self._check_space(state)
            if there:
                self.wait()
                self._manager.delete(step)
            saved = self._manager.save(
                step,
                metrics={"restore_point": restore_point, "bits_per_dim": bits_per_dim},
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), config=ocp.args.JsonSave(self._description)
                ),
            )
        if not saved:  # Orbax declines steps before the newest one
            raise RuntimeError(f"step {step} was not saved beside the steps {self.steps()}")

    def check(self) -> None:
        """Raises the error of the checkpoint that is being written, if any, as `save` does."""
        with self._full_disk_explained():
            self._manager.check_for_errors()

    def wait(self) -> None:
        """Returns once everything is written; raises as `save` does."""
        with self._full_disk_explained():
            self._manager.wait_until_finished()

    def steps(self) -> list[int]:
        """Returns the steps that are saved, in order."""
        return sorted(self._manager.all_steps())

    def validation(self, step: int) -> float | None:
        """Returns the bits per dimension of the validation at a saved step, or None without one."""
        bits: float | None = (self._manager.metrics(step) or {}).get("bits_per_dim")
        return bits

    def restore(self, template: S, usable: Callable[[S], bool] = lambda _: True) -> S | None:
        """Restores the newest checkpoint that can be read and is `usable`, and removes newer ones.

        The run continues from there, so it will save the newer steps again. Damaged checkpoints
        among them are moved to the folder `damaged` of the run, with a warning; the others are
        intact states of a course that the run abandons, and are deleted.

        Args:
            template: a state of the same structure and shapes (arrays or `jax.ShapeDtypeStruct`).
            usable: returns whether to accept a state that was read.

        Returns:
            The state on the host, or None if there are no checkpoints.

        Raises:
            ConfigError: if the checkpoints are of another configuration, naming the fields.
            TrainingError: if there are checkpoints, but none can be used.
        """
        self.wait()
        host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template)
        intact = set()

        def read(step: int) -> S:
            self._check_configuration(read_config_of(self._manager, step))
            items = ocp.args.Composite(state=ocp.args.StandardRestore(host))
            run: S = self._manager.restore(step, args=items)["state"]
            intact.add(step)
            return run

        found = newest(self._manager, read, usable)
        if found is None:
            return None
        run, restored = found
        newer = [step for step in self.steps() if step > restored]
        for step in newer:
            if step in intact:
                self._manager.delete(step)
            elif processes.is_first():
                _set_aside(self.directory, step)
        if newer:
            processes.wait("damaged checkpoints are moved")
            self._manager.reload()
        return run

    def _check_configuration(self, found: dict[str, Any]) -> None:
        config_file.check_version(found, f"the checkpoints in {self.directory}")
        found = dataset_names.of_run(found, self.directory.parent)
        differing = config_file.differences(found, self._description)
        if differing:
            named = ", ".join(
                f"{name} ({there} there, {here} here)" for name, (there, here) in differing.items()
            )
            raise ConfigError(
                f"the checkpoints in {self.directory} are of another configuration: {named}. Use "
                "another --workdir, or give that run its own configuration."
            )

    def _check_space(self, state: Checkpointable) -> None:
        """Raises an OSError if the disk cannot hold `state`, before Orbax fills it and fails."""
        needed = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(state))
        if processes.is_first() and shutil.disk_usage(self.directory).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.directory))

    @contextlib.contextmanager
    def _full_disk_explained(self) -> Iterator[None]:
        """Turns what Orbax and TensorStore raise when the disk is full into a TrainingError."""
        try:
            yield
        except Exception as error:
            if not _is_full_disk(error):
                raise
            raise TrainingError(
                f"no space is left on the disk of {self.directory}, so the last checkpoint could "
                "not be saved; the earlier ones are intact. Free some space and run the same "
                "command again to resume."
            ) from error


def _is_full_disk(error: BaseException | None) -> bool:
    """Returns whether a full disk caused an error; TensorStore's errors only say so in words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error) or "quota exceeded" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


def _set_aside(directory: pathlib.Path, step: int) -> None:
    """Moves a damaged checkpoint to the folder `damaged`, under a name that is free there."""
    place = directory.parent / "damaged"
    place.mkdir(exist_ok=True)
    target, count = place / str(step), 1
    while target.exists():  # the step was damaged before
        count += 1
        target = place / f"{step}-{count}"
    (directory / str(step)).rename(target)
