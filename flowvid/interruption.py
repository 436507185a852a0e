"""What ends a run early, or keeps it from starting: signals, and a second process."""

import contextlib
import pathlib
import signal
import sys
import threading
import types
from collections.abc import Iterator

import filelock

from flowvid.errors import Stopped, TrainingError


@contextlib.contextmanager
def only_one(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps other processes from training in `workdir`; a killed process keeps nobody out.

    Raises:
        TrainingError: another process trains there.
    """
    lock = filelock.FileLock(workdir / "training.lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise TrainingError(
            f"another process is training in {workdir}: wait for it, or use another --workdir."
        ) from error
    try:
        yield
    finally:
        lock.release()


class StopRequest:
    """Notes SIGTERM and SIGINT while it is entered, so that a run ends between two steps.

    A second signal does what it would have done without this. Signals reach the main thread only:
    in another thread this does nothing.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def __enter__(self) -> "StopRequest":
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        del frame
        self.__exit__()
        self.received = signal.Signals(number)
        text = "saving after this step; once more ends the run at once, unsaved"
        print(f"\n{self.received.name}: {text}.", file=sys.stderr, flush=True)

    def error(self, workdir: pathlib.Path, step: int) -> Stopped:
        """What is raised once all is saved."""
        assert self.received is not None
        return Stopped(
            f"{self.received.name}: stopped and saved at step {step} of {workdir}. The same "
            "command goes on from there.",
            self.received,
        )
