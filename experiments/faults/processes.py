"""The processes of a training run that the fault drill starts, signals and waits for."""

import os
import pathlib
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple

_ROOT = pathlib.Path(__file__).parents[2]
_TIMEOUT = 600  # seconds that a process may take: a slow one is not yet stuck


class Failed(Exception):
    """What was observed is not what was expected."""


class Skipped(Exception):
    """Why a fault cannot be tried on this machine."""


class Setup(NamedTuple):
    """How a run is started."""

    devices: int = 1  # of each process
    processes: int = 1
    poison: str = ""  # see `experiments.faults.poisoned_train`


class Processes:
    """The processes of a run, from one start to their end. What they print goes to files."""

    def __init__(self, commands: list[list[str]], devices: int, log: pathlib.Path) -> None:
        # The user's flags hold, too; the last of two flags of one name counts.
        given = os.environ.get("XLA_FLAGS", "")
        force = f"{given} --xla_force_host_platform_device_count={devices}"
        env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": force}
        self.logs = [log.with_suffix(f".{i}.log") for i in range(len(commands))]
        self.processes = []
        for command, path in zip(commands, self.logs, strict=True):
            with path.open("w", encoding="utf-8") as file:
                process = subprocess.Popen(
                    command, cwd=_ROOT, env=env, stdout=file, stderr=subprocess.STDOUT
                )
            self.processes.append(process)

    def running(self) -> bool:
        """Returns whether none of the processes has ended."""
        return all(process.poll() is None for process in self.processes)

    def lasts(self, seconds: float) -> bool:
        """Waits, and returns whether none of the processes has ended within so many seconds."""
        end = time.monotonic() + seconds
        while self.running() and time.monotonic() < end:
            time.sleep(0.01)
        return self.running()

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Waits, and returns whether a condition became true before a process ended."""
        while self.running():
            if condition():
                return True
            time.sleep(0.001)
        return False

    def send(self, number: int, index: int = 0) -> None:
        """Sends a signal to one of the processes."""
        self.processes[index].send_signal(number)

    def kill(self) -> set[int]:
        """Kills all processes, waits until they are gone, and returns their exit codes."""
        for process in self.processes:
            process.kill()
            process.wait()
        return {process.returncode for process in self.processes}

    def finish(self) -> tuple[set[int], str]:
        """Waits for all processes, and returns their exit codes and what they printed.

        Raises:
            Failed: when they do not end.
        """
        end = time.monotonic() + _TIMEOUT
        try:
            for process in self.processes:
                process.wait(max(end - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"stuck after {_TIMEOUT} s") from None
        return {process.returncode for process in self.processes}, self.output()

    def output(self) -> str:
        """Returns what the processes have printed, with words separated by single spaces."""
        return " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in self.logs)
