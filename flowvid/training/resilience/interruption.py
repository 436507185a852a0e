"""What ends a run early, or keeps it from starting: signals, and a second process."""

import contextlib
import pathlib
import signal
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import filelock
import jax

from flowvid.errors import TrainingError
from flowvid.parallel import processes
from flowvid.parallel.devices import dispatch_max, unreplicate


@contextlib.contextmanager
def only_one(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps other runs from training in `workdir`; a killed process keeps nobody out.

    Of a run's processes the first holds the lock, and all of them are refused with it.

    Raises:
        TrainingError: another run trains there.
    """
    lock = filelock.FileLock(workdir / "training.lock", blocking=False)
    free = True
    if processes.is_first():
        try:
            lock.acquire()
        except filelock.Timeout:
            free = False
    if not processes.broadcast(int(free)):
        raise TrainingError(
            f"another process is training in {workdir}: wait for it, or use another --workdir."
        )
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
        self._asked: Any = None

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

    def agreed(self) -> bool:
        """Whether to stop now. Every process must ask equally often, and all get one answer.

        With several processes the answer is that to the question before, which has arrived by now,
        so that no device waits for it.
        """
        if jax.process_count() == 1:
            return self.received is not None
        asked, self._asked = self._asked, dispatch_max(int(self.received or 0))
        if asked is not None and (number := int(unreplicate(asked))):
            self.received = signal.Signals(number)
            return True
        return False
