"""Runs in processes of their own, several at a time: trained, evaluated, never done twice.

A run that was interrupted goes on when the same command is given again.
"""

import concurrent.futures
import dataclasses
import functools
import json
import os
import pathlib
import queue
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from tqdm import tqdm

from flowvid.errors import TrainingError


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder, and the flags that make it; `evaluate` of None leaves it out."""

    workdir: pathlib.Path
    train: dict[str, Any]
    evaluate: dict[str, Any] | None
    module: str = "flowvid.train"  # that trains it

    def commands(self) -> list[list[str]]:
        """The arguments of Python, one list a process, in order."""
        workdir = {"workdir": self.workdir}
        commands = [["-m", self.module, *_flags(workdir | self.train)]]
        if self.evaluate is not None:
            commands.append(["-m", "flowvid.evaluate", *_flags(workdir | self.evaluate)])
        return commands

    @property
    def log(self) -> pathlib.Path:
        """What its processes have printed."""
        return self.workdir / "log.txt"

    def is_done(self) -> bool:
        """Whether these very commands have been carried out."""
        path = self._done
        return path.exists() and json.loads(path.read_text()) == self.commands()

    def carry_out(self, environment: dict[str, str], cores: Sequence[int] | None) -> None:
        """Trains and evaluates.

        Raises:
            TrainingError: when a process fails; with the end of what it printed.
        """
        if self.is_done():
            return
        self.workdir.mkdir(parents=True, exist_ok=True)
        for command in self.commands():
            with self.log.open("a") as log:
                print("python", *command, file=log, flush=True)
                code = subprocess.run(
                    [sys.executable, *command],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | environment,
                    preexec_fn=functools.partial(_stay_on, cores) if cores else None,
                ).returncode
            if code:
                end = self.log.read_text()[-1000:].replace("\r", "\n").strip()
                raise TrainingError(
                    f"python {' '.join(command)} has failed with exit code {code}:\n{end}\n"
                    f"All that it printed is in {self.log}; the same command goes on from there."
                )
        self._done.write_text(json.dumps(self.commands(), indent=1) + "\n")

    @property
    def _done(self) -> pathlib.Path:
        return self.workdir / "done.json"


def _flags(values: dict[str, Any]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items() if value is not None]


def _stay_on(cores: Sequence[int]) -> None:
    os.sched_setaffinity(0, cores)


def carry_out(runs: Iterable[Run], jobs: int, gpus: Sequence[str] = ()) -> None:
    """Carries out all runs, `jobs` at a time, each with its share of the cores.

    Args:
        runs: to be done, or to be found done.
        jobs: processes at a time.
        gpus: numbers of CUDA devices: then one job at a time on each of them, however many `jobs`.

    Raises:
        TrainingError: when one fails, once those that have begun are over.
    """
    runs = list(runs)
    places: queue.SimpleQueue[tuple[dict[str, str], Sequence[int] | None]] = queue.SimpleQueue()
    for gpu in gpus:
        places.put(({"CUDA_VISIBLE_DEVICES": gpu}, None))
    if not gpus:
        for share in _shares(jobs):
            places.put(({}, share))
    count = len(gpus) or jobs

    def work(run: Run) -> None:
        environment, cores = places.get()
        try:
            run.carry_out(environment, cores)
        finally:
            places.put((environment, cores))

    with (
        concurrent.futures.ThreadPoolExecutor(count) as pool,
        tqdm(total=len(runs), desc="runs", unit="run") as bar,
    ):
        futures = [pool.submit(work, run) for run in runs]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _shares(jobs: int) -> list[Sequence[int] | None]:
    """The cores of each job; None where the system does not say which there are."""
    if jobs == 1 or not hasattr(os, "sched_getaffinity"):
        return [None] * jobs
    cores = sorted(os.sched_getaffinity(0))
    return [cores[job % len(cores) :: jobs] or cores for job in range(jobs)]
