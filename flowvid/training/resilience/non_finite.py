"""Skipped non-finite steps: logged, their batches kept, and rolled back if there are too many.

`workdir`/incidents/log.jsonl has a line for each such step, and a file next to it holds the batch,
which `flowvid.training.resilience.replay` replays. The policy has three layers: a non-finite step
changes nothing and is counted (`steps.train_step`); config.max_skips of them in a row roll the run
back to its restore point (`run_state.is_restore_point`), from where it continues after their data;
after config.max_restores rollbacks to the same restore point the run ends with an error.
"""

import collections
import datetime
import json
import math
import pathlib
import shlex
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from flowvid.config.schema import Config
from flowvid.data import datasets
from flowvid.errors import TrainingError
from flowvid.parallel import processes
from flowvid.parallel.devices import unreplicate
from flowvid.training.checkpoints.run_state import RunState

KEEP = 100  # batches, of the first non-finite steps; more tell nothing new and fill the disk


class CompletedStep(NamedTuple):
    """A step that was dispatched; the devices may still be computing its metrics."""

    step: int
    examples: int  # examples read so far, those of this step included
    metrics: dict[str, Any]  # by the models' names, replicated


class NonFiniteSteps:
    """Inspects each step after the next one is dispatched, so that the devices never wait for it.

    All processes see the same metrics and decide alike; only the first one writes.

    Attributes:
        in_a_row: consecutive non-finite steps, up to the last one that was inspected.
    """

    def __init__(
        self, config: Config, workdir: pathlib.Path, dataset: datasets.Dataset, run: RunState
    ) -> None:
        self.config, self.workdir, self.dataset = config, workdir, dataset
        states = (getattr(run, name) for name in config.models)
        self.in_a_row = max(int(state.skipped_in_a_row) for state in states)
        self._pending: collections.deque[CompletedStep] = collections.deque()

    def add(self, completed: CompletedStep, wait: bool) -> CompletedStep | None:
        """Inspects the step before this one; with `wait`, this one, too.

        Returns:
            The step with which there were too many non-finite ones in a row, or None. The caller
            then rolls back and continues after the data of that step.
        """
        self._pending.append(completed)
        return self.settle(1 - int(wait))

    def settle(self, ahead: int = 0) -> CompletedStep | None:
        """Inspects all steps except the last `ahead`; returns what `add` returns."""
        while len(self._pending) > ahead:
            completed = self._pending.popleft()
            self._inspect(completed)
            if self.in_a_row >= self.config.max_skips:
                self._pending.clear()
                return completed
        return None

    def check_restores(self, step: int, restores: int) -> None:
        """Checks that the run may roll back once more.

        Args:
            step: the last non-finite step.
            restores: rollbacks to the same restore point so far.

        Raises:
            TrainingError: if there have been too many.
        """
        if restores < self.config.max_restores:
            return
        quoted = shlex.quote(str(self.workdir))
        raise TrainingError(
            f"training stops at step {step}: {self.in_a_row} steps in a row had a non-finite loss "
            f"or gradient, also after {restores} rollbacks to the last checkpoint. Their batches "
            f"are in {self.workdir / 'incidents'}, and `python -m flowvid.train "
            f"--workdir={quoted} --inspect=FILE` replays one. In another --workdir, a lower "
            "--learning_rate, more --warmup_steps or a lower --head_clip or --tail_clip may help; "
            "in this one, a larger --max_restores continues training."
        )

    def rolled_back(self, step: int, to: int, examples: int) -> None:
        """Logs that the checkpoint of step `to` was restored after `step`."""
        logging.warning(
            "%d steps in a row were non-finite: rolled back from step %d to the checkpoint of step "
            "%d; training continues after their data.",
            self.in_a_row,
            step,
            to,
        )
        self.in_a_row = 0  # a restore point's last step was finite
        self._write({"event": "restored", "step": step, "to": to, "examples": examples})

    def _inspect(self, completed: CompletedStep) -> None:
        metrics = {name: unreplicate(values) for name, values in completed.metrics.items()}
        rows = {name: int(values["skipped_in_a_row"]) for name, values in metrics.items()}
        self.in_a_row = max(rows.values())
        bad = [name for name, row in rows.items() if row]
        if not bad:
            return
        start = completed.examples - self.config.batch_size
        batch = self._batch(start) if processes.is_first() else {"id": []}
        file = self._keep(completed.step, start, batch) if processes.is_first() else None
        for name in bad:
            norms = {k: v for k, v in metrics[name].items() if k.startswith("gradient_norm")}
            logging.warning(
                "Step %d of the %s is skipped: bits per dimension %.3g, gradient norm %.3g.",
                completed.step,
                name,
                metrics[name]["bits_per_dim"],
                norms["gradient_norm"],
            )
            self._write(
                {
                    "event": "non-finite",
                    "model": name,
                    "step": completed.step,
                    "in_a_row": rows[name],
                    "bits_per_dim": _number(metrics[name]["bits_per_dim"]),
                    **{key: _number(norm) for key, norm in norms.items()},
                    "examples": [start, completed.examples],
                    "ids": batch["id"],
                    "batch": file,
                }
            )

    def _batch(self, start: int) -> datasets.ExampleBatch:
        """Reads a global batch again, from its position in the data."""
        size, seed = self.config.batch_size, self.config.seed
        return next(datasets.train_batches(self.dataset, batch_size=size, seed=seed, start=start))

    def _keep(self, step: int, start: int, batch: datasets.ExampleBatch) -> str | None:
        """Writes a batch to a file, atomically; returns its name, or None if enough are kept."""
        folder = self.workdir / "incidents"
        folder.mkdir(exist_ok=True)
        path = folder / f"step{step:08}-example{start:012}.npz"
        if len(list(folder.glob("*.npz"))) >= KEEP and not path.exists():
            return None
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez(file, step=step, **batch)
        temporary.replace(path)
        return path.name

    def _write(self, event: dict[str, Any]) -> None:
        if not processes.is_first():
            return
        folder = self.workdir / "incidents"
        folder.mkdir(exist_ok=True)
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time} | event) + "\n")


def _number(value: Any) -> float | str:
    """Returns a float, or its name if it is non-finite, which JSON cannot express."""
    number = float(value)
    return number if math.isfinite(number) else str(number)
