"""Ends a run between two steps on a signal, and locks its folder against a second process."""

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
    """Locks `workdir` against other runs that train; a killed process leaves no lock behind.

    Of several processes of a run the first holds the lock. If it is refused, all of them are.

    Raises:
        TrainingError: if another run trains there.
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
    """A context manager that records SIGTERM and SIGINT, so that a run can end between two steps.

    A second signal has its usual effect. Signals reach only the main thread, so in another thread
    this does nothing.
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
        text = "saving after this step; a second signal ends the run at once, without saving"
        print(f"\n{self.received.name}: {text}.", file=sys.stderr, flush=True)

    def agreed(self) -> bool:
        """Returns whether to stop now, alike in all processes, which must ask equally often.

        With several processes this is the answer to the previous question, which has arrived by
        now, so that no device waits for it.
        """
        if jax.process_count() == 1:
            return self.received is not None
        asked, self._asked = self._asked, dispatch_max(int(self.received or 0))
        if asked is not None and (number := int(unreplicate(asked))):
            self.received = signal.Signals(number)
            return True
        return False
