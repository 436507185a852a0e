"""Trains and evaluates runs in processes, several at a time; what is done is not done again.

A run that was interrupted is resumed by the same command.
"""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import queue
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from tqdm import tqdm

from experiments.running import configurations
from flowvid.errors import TrainingError


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder and the flags that make it; with `evaluate` of None it is not evaluated."""

    workdir: pathlib.Path
    train: dict[str, Any]
    evaluate: dict[str, Any] | None
    module: str = "flowvid.train"  # that trains it

    def commands(self) -> list[list[str]]:
        """Returns Python's arguments for each process, in order."""
        workdir = {"workdir": self.workdir}
        commands = [["-m", self.module, *_flags(workdir | self.train)]]
        if self.evaluate is not None:
            commands.append(["-m", "flowvid.evaluate", *_flags(workdir | self.evaluate)])
        return commands

    @property
    def log(self) -> pathlib.Path:
        """The file that holds what the processes printed."""
        return self.workdir / "log.txt"

    def is_done(self) -> bool:
        """Returns whether exactly these commands have been carried out."""
        path = self._done
        return path.exists() and json.loads(path.read_text(encoding="utf-8")) == self.commands()

    def check(self) -> None:
        """Checks that the folder holds no run of another configuration.

        Raises:
            ConfigError: naming the fields that differ.
        """
        if not self.is_done():
            configurations.check_reusable(self.workdir, self.module, self.train)

    def carry_out(self, environment: dict[str, str], cores: Sequence[int] | None) -> None:
        """Trains and evaluates the run, unless that is done.

        Args:
            environment: variables for the processes, beside those of this one.
            cores: that the processes may use; None for all.

        Raises:
            TrainingError: when a process fails; with the end of what it printed.
        """
        if self.is_done():
            return
        self.workdir.mkdir(parents=True, exist_ok=True)
        for command in self.commands():
            with self.log.open("a", encoding="utf-8") as log:
                print("python", *command, file=log, flush=True)
                code = _run(command, log, environment, cores)
            if code:
                end = self.log.read_text(encoding="utf-8")[-1000:].replace("\r", "\n").strip()
                raise TrainingError(
                    f"python {' '.join(command)} failed with exit code {code}:\n{end}\n"
                    f"{self.log} holds all that it printed; run the same command again to resume."
                )
        self._done.write_text(json.dumps(self.commands(), indent=1) + "\n", encoding="utf-8")

    @property
    def _done(self) -> pathlib.Path:
        return self.workdir / "done.json"


def _flags(values: dict[str, Any]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items() if value is not None]


def _run(
    command: Sequence[str],
    log: TextIO,
    environment: dict[str, str],
    cores: Sequence[int] | None,
) -> int:
    """Runs Python with these arguments, and returns its exit code."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=log,
        stderr=subprocess.STDOUT,
        env=os.environ | environment,
    )
    try:
        if cores:  # not in a `preexec_fn`: forking is unsafe beside JAX's threads
            os.sched_setaffinity(process.pid, cores)
        return process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise


def carry_out(runs: Iterable[Run], jobs: int, gpus: Sequence[str] = ()) -> None:
    """Carries out all runs, `jobs` at a time, each with its share of the cores.

    Args:
        runs: those that are done are skipped.
        jobs: runs at a time.
        gpus: numbers of CUDA devices; each then takes one run at a time, whatever `jobs` is.

    Raises:
        ConfigError: before any run starts, when a folder holds a run of another configuration.
        TrainingError: when a run fails, once those that have started are over.
    """
    runs = list(runs)
    for run in runs:
        run.check()
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
    """Returns the cores of each job; None where the system does not list them."""
    if jobs == 1 or not hasattr(os, "sched_getaffinity"):
        return [None] * jobs
    cores = sorted(os.sched_getaffinity(0))
    return [cores[job % len(cores) :: jobs] or cores for job in range(jobs)]
