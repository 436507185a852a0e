"""Steps that were not finite: told, written down, their batches kept; too many in a row undone.

Of each such step `workdir`/incidents/log.jsonl has a line, and a file beside it the batch, which
`flowvid.inspection` replays. The policy in three layers: such a step changes nothing and is
counted (`steps.train_step`); config.max_skips of them in a row restore the last checkpoint that was
due (`checkpoints.is_restore_point`), and training goes on past their data; after
config.max_restores without a new checkpoint between them the run is given up.
"""

import collections
import datetime
import json
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from flowvid.config.schema import Config
from flowvid.data import datasets
from flowvid.errors import TrainingError
from flowvid.parallel import processes
from flowvid.parallel.devices import unreplicate

KEEP = 100  # batches, of the first incidents; more of them tell nothing new and fill the disk


class Done(NamedTuple):
    """A step that the devices were asked for; its metrics may still be on their way."""

    step: int
    examples: int  # read so far, this step's among them
    metrics: dict[str, Any]  # by the models' names, replicated


class Incidents:
    """Looks at each step once it is done, a step late, so that the devices never wait for it.

    All processes see the same metrics, and decide alike; the first alone writes.
    """

    def __init__(self, config: Config, workdir: pathlib.Path, dataset: datasets.Dataset) -> None:
        self.config, self.workdir, self.dataset = config, workdir, dataset
        self.in_a_row = 0  # steps that were not finite, up to the last one looked at
        self._pending: collections.deque[Done] = collections.deque()

    def add(self, done: Done, wait: bool) -> Done | None:
        """Notes a step, and looks at the one before; with `wait`, at this one, too.

        Returns:
            None, or the step that was one too many in a row: restore, and go on past its data.
        """
        self._pending.append(done)
        return self.settle(1 - int(wait))

    def settle(self, ahead: int = 0) -> Done | None:
        """Looks at all steps but the last `ahead`; returns what `add` does."""
        while len(self._pending) > ahead:
            done = self._pending.popleft()
            self._look(done)
            if self.in_a_row >= self.config.max_skips:
                self._pending.clear()
                return done
        return None

    def check(self, step: int, restores: int) -> None:
        """Before another restore.

        Raises:
            TrainingError: when there have been too many since the last checkpoint.
        """
        if restores < self.config.max_restores:
            return
        raise TrainingError(
            f"the run is given up at step {step}: {self.in_a_row} steps in a row had no finite "
            f"loss or gradient, and after {restores} restores of the last checkpoint it is no "
            f"better. {self.workdir / 'incidents'} holds their batches, and `python -m "
            f"flowvid.train --workdir={self.workdir} --inspect=FILE` replays one. In another "
            "--workdir, a lower --learning_rate, more --warmup_steps or lower clips may help; "
            "in this one, a larger --max_restores lets it go on."
        )

    def restored(self, step: int, to: int, examples: int) -> None:
        """Tells and writes down that the checkpoint of step `to` was restored after `step`."""
        logging.warning(
            "%d steps in a row were not finite: back from step %d to the checkpoint of step %d, "
            "and on past their data.",
            self.in_a_row,
            step,
            to,
        )
        self.in_a_row = 0
        self._write({"event": "restored", "step": step, "to": to, "examples": examples})

    def _look(self, done: Done) -> None:
        metrics = {name: unreplicate(values) for name, values in done.metrics.items()}
        rows = {name: int(values["skipped_in_a_row"]) for name, values in metrics.items()}
        self.in_a_row = max(rows.values())
        bad = [name for name, row in rows.items() if row]
        if not bad:
            return
        start = done.examples - self.config.batch_size
        batch = self._batch(start) if processes.is_first() else {"id": []}
        file = self._keep(done.step, start, batch) if processes.is_first() else None
        for name in bad:
            norms = {k: v for k, v in metrics[name].items() if k.startswith("gradient_norm")}
            logging.warning(
                "Step %d of the %s is skipped: bits per dimension %.3g, gradient norm %.3g.",
                done.step,
                name,
                metrics[name]["bits_per_dim"],
                norms["gradient_norm"],
            )
            self._write(
                {
                    "event": "not finite",
                    "model": name,
                    "step": done.step,
                    "in_a_row": rows[name],
                    "bits_per_dim": _number(metrics[name]["bits_per_dim"]),
                    **{key: _number(norm) for key, norm in norms.items()},
                    "examples": [start, done.examples],
                    "ids": batch["id"],
                    "batch": file,
                }
            )

    def _batch(self, start: int) -> datasets.ExampleBatch:
        """The global batch, read again: its position in the data is all that it depends on."""
        size, seed = self.config.batch_size, self.config.seed
        return next(datasets.train_batches(self.dataset, batch_size=size, seed=seed, start=start))

    def _keep(self, step: int, start: int, batch: datasets.ExampleBatch) -> str | None:
        """Writes a batch to a file of its own, in one move; None where enough are kept."""
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
        with (folder / "log.jsonl").open("a") as file:
            file.write(json.dumps({"time": time} | event) + "\n")


def _number(value: Any) -> float | str:
    """A float, or its name: JSON has no word for those that are not finite."""
    number = float(value)
    return number if math.isfinite(number) else str(number)
