"""Listing files of footage, and decoding them in parallel: no file stops what reads many.

No TensorFlow here: each decoding process imports this module.
"""

import collections
import contextlib
import functools
import hashlib
import multiprocessing.connection
import multiprocessing.context
import os
import queue
import signal
import sys
import threading
import types
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import IO, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import UInt8

from flowvid.data import decoding

Video = UInt8[np.ndarray, "time size size 3"]

_HARD_SECONDS = 2 * decoding.MAX_SECONDS  # then a decoder that hangs is killed


class Item(NamedTuple):
    """A listed file. `reason` says why it cannot be used, where the list alone tells."""

    id: str  # its path as listed, printable: names it within its split
    label: str
    path: str  # absolute; of the zip file, where `member` names a file inside
    member: str = ""
    reason: str = ""


class Window(NamedTuple):
    """Which frames are taken of a clip, at what size; the arguments of `decoding.decode_clip`."""

    num_frames: int
    image_size: int
    start: int = 0
    stride: int = 1


def printable(name: str) -> str:
    """A file name as text that can be stored, whatever bytes it holds."""
    return name.encode("utf-8", "backslashreplace").decode()


# Listing.


def in_order(items: Iterable[Item]) -> list[Item]:
    """The items in an order that mixes labels but hangs on each id alone; repeats get a reason."""
    seen: set[str] = set()
    listed = []
    for item in items:
        if item.id in seen:
            item = item._replace(reason="listed before")
        seen.add(item.id)
        listed.append(item)
    return sorted(listed, key=lambda item: position(item.id))


def position(clip_id: str, seed: int = 0) -> float:
    """A number in [0, 1) that is a function of a clip's id and a seed alone."""
    digest = hashlib.sha256(f"{seed}/{clip_id}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def files_below(root: epath.Path, suffixes: frozenset[str]) -> Iterator[str]:
    """Paths of files by their suffix, relative to `root`, sorted; hidden ones are left out."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in suffixes and not name.startswith("."):
                yield os.path.relpath(os.path.join(folder, name), root)


# Decoding.


def decode_item(window: Window, root: str, item: Item) -> Video | str:
    """The wanted frames of a listed file or, if it cannot be used, the reason in one line.

    `root` is the folder that no link may lead out of.
    """
    try:
        reason = item.reason or _refusal(item.path, root)
        return reason or _read(window, item)
    except decoding.ClipError as error:
        reason = str(error)
    except OSError as error:  # without the path, so that equal reasons can be counted
        reason = f"not readable ({error.strerror or error})"
    except Exception as error:  # whatever a file makes a decoder raise, it stops no build
        reason = f"{type(error).__name__}: {error}"
    return " ".join(printable(reason).split())


def _refusal(path: str, root: str) -> str:
    if "://" in path:  # in a cloud bucket, where there are no links
        return ""
    if not os.path.lexists(path):
        return "no such file"
    if not os.path.isfile(path):
        return "not a file"
    if os.path.getsize(path) == 0:
        return "an empty file"
    if os.path.commonpath((os.path.realpath(path), os.path.realpath(root))) != os.path.realpath(
        root
    ):
        return "a symbolic link that leads out of the data set's folder"
    return ""


def _read(window: Window, item: Item) -> Video:
    is_image = os.path.splitext(item.member or item.path)[1].lower() in decoding.IMAGE_SUFFIXES
    with _open(item) as file:
        if is_image:
            return decoding.decode_image(file, window.image_size)
        return decoding.decode_clip(file, *window)


def _open(item: Item) -> IO[bytes]:
    if item.member:
        return _zip(item.path).open(item.member)
    return epath.Path(item.path).open("rb") if "://" in item.path else open(item.path, "rb")


@functools.cache
def _zip(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def decode_in_parallel(
    decode: Callable[[Item], Video | str], items: Sequence[Item], processes: int
) -> Iterator[tuple[Item, Video | str]]:
    """Each item with its frames or the reason it has none, in the items' order.

    At most a few frames a process are held at a time, however many items there are. A file whose
    decoder crashes or hangs takes nothing but its own process with it.
    """
    decoders = [Decoder(decode) for _ in range(max(1, min(processes, len(items))))]
    idle: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
    for decoder in decoders:
        idle.put(decoder)

    def run(item: Item) -> tuple[Item, Video | str]:
        decoder = idle.get()
        try:
            return item, decoder(item)
        finally:
            idle.put(decoder)

    threads = futures.ThreadPoolExecutor(len(decoders))  # one waits for each process
    pending: collections.deque[futures.Future] = collections.deque()
    try:
        for item in items:
            pending.append(threads.submit(run, item))
            if len(pending) == 4 * len(decoders):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for decoder in decoders:
            decoder.kill()  # no thread waits for what nobody wants any more
        threads.shutdown()
        for decoder in decoders:
            decoder.stop()


class Decoder:
    """A process that decodes one file at a time; another takes its place when it fails."""

    def __init__(self, decode: Callable[[Item], Video | str]) -> None:
        self.decode = decode
        self.process: _SpawnProcess | None = None
        self.killed = False

    def __call__(self, item: Item) -> Video | str:
        """The frames of an item, or the reason it has none."""
        if self.process is None or not self.process.is_alive():
            self.start()
        try:
            self.pipe.send(item)
            if self.pipe.poll(_HARD_SECONDS):
                return self.pipe.recv()
            reason = f"the decoder hung for {_HARD_SECONDS:.0f} seconds"
        except (EOFError, OSError):  # the pipe's other end is gone
            reason = "the decoder crashed"
        self.stop()
        return reason

    def start(self) -> None:
        """Starts the process, and waits until it is ready."""
        self.stop()
        self.pipe, theirs = multiprocessing.Pipe()
        # Not forked: that would copy the locks that TensorFlow's threads hold.
        process = _SpawnProcess(target=_serve, args=(self.decode, theirs), daemon=True)
        process.start()
        self.process = process
        if self.killed:  # while it was starting: `kill` may have come too early to see it
            process.kill()
        theirs.close()
        try:
            self.pipe.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("A decoding process could not start; see above.") from error

    def kill(self) -> None:
        """Ends the process at once, and each after it; from another thread than its user's."""
        self.killed = True
        process = self.process
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """Ends the process, and frees what it held here."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None


class _SpawnProcess(multiprocessing.context.SpawnProcess):
    """A process that does not run the main script again: it needs this module, not all of TFDS."""

    _one_at_a_time = threading.Lock()

    def start(self) -> None:
        with self._one_at_a_time:
            main = sys.modules["__main__"]
            sys.modules["__main__"] = types.ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = main


def _serve(
    decode: Callable[[Item], Video | str], pipe: multiprocessing.connection.Connection
) -> None:
    """What a decoding process does: it says that it is ready, then answers items."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        pipe.send(None)
        while True:
            pipe.send(decode(pipe.recv()))


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, killed for instance."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
