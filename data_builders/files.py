"""Decodes files of footage in parallel processes, so that no file can stop a preparation.

This module must not import TensorFlow, since each decoding process imports this module.
"""

import collections
import contextlib
import multiprocessing.connection
import multiprocessing.context
import os
import queue
import signal
import struct
import sys
import threading
import types
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import IO, NamedTuple, cast

import numpy as np
from etils import epath
from jaxtyping import UInt8

from data_builders.listing import Item
from flowvid.data import decoding
from flowvid.sizes import Size

Video = UInt8[np.ndarray, "time height width 3"]

_HARD_SECONDS = 2 * decoding.MAX_SECONDS  # after which a decoder that hangs is killed


class Window(NamedTuple):
    """Which frames are taken of a clip, and their size: the arguments of `decoding.decode_clip`."""

    num_frames: int
    image_size: Size
    start: int = 0
    stride: int = 1


def decode_item(window: Window, root: str, item: Item) -> Video | str:
    """Returns the frames of a listed file or, if it cannot be used, the reason in one line.

    Args:
      window: the frames to return.
      root: the folder that no link may lead out of.
      item: the file.
    """
    try:
        reason = item.reason or _refusal(item.path, root)
        return reason or _read(window, item)
    except decoding.ClipError as error:
        reason = str(error)
    except OSError as error:  # the path is left out so that equal reasons can be counted
        reason = f"not readable ({error.strerror or error})"
    except Exception as error:  # damage may cause errors of any type; none may stop a build
        reason = f"{type(error).__name__}: {error}"
    return " ".join(reason.encode("utf-8", "backslashreplace").decode().split())


def _refusal(path: str, root: str) -> str:
    if "://" in path:  # a cloud bucket has no links
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
        return "a symbolic link that leads out of the dataset's folder"
    return ""


def _read(window: Window, item: Item) -> Video:
    with open_item(item) as file:
        name = item.path if item.member is None else item.member.filename
        return decoding.decode(file, name, *window)


def open_item(item: Item) -> IO[bytes]:
    """Opens a file, or a member of a zip file, for reading."""
    if item.member is not None:
        return _open_member(item.path, item.member)
    return epath.Path(item.path).open("rb") if "://" in item.path else open(item.path, "rb")


_LOCAL_HEADER = struct.Struct("<4s22xHH")  # the signature, and the lengths of two texts behind it


def _open_member(path: str, member: zipfile.ZipInfo) -> IO[bytes]:
    """Opens a member of a zip file by its entry.

    `zipfile.ZipFile` reads the entries of all members first. With a million of them, this would
    take every decoding process half a gigabyte and many seconds.
    """
    if member.flag_bits & 1:
        raise decoding.ClipError("encrypted in its zip file")
    file = open(path, "rb")
    try:
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
            raise decoding.ClipError("not where its zip file says")
        _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        file.seek(name_length + extra_length, os.SEEK_CUR)
        return cast(IO[bytes], zipfile.ZipExtFile(file, "r", member, close_fileobj=True))
    except BaseException:
        file.close()
        raise


def decode_in_parallel(
    decode: Callable[[Item], Video | str], items: Sequence[Item], processes: int
) -> Iterator[tuple[Item, Video | str]]:
    """Yields each item with its frames or the reason for skipping it, in the items' order.

    At most four results per process are held at a time. If a decoder crashes or hangs, only its
    own process ends and only its current item is skipped.
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

    threads = futures.ThreadPoolExecutor(len(decoders))  # each waits for one process
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
            decoder.kill()  # so that no thread waits for results that are no longer needed
        threads.shutdown()
        for decoder in decoders:
            decoder.stop()


class Decoder:
    """A process that decodes one file at a time and is replaced when it fails."""

    def __init__(self, decode: Callable[[Item], Video | str]) -> None:
        self.decode = decode
        self.process: _SpawnProcess | None = None
        self.killed = False

    def __call__(self, item: Item) -> Video | str:
        """Returns the frames of an item, or the reason for skipping it."""
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
        # Not forked, since that would copy the locks that TensorFlow's threads hold.
        process = _SpawnProcess(target=_serve, args=(self.decode, theirs), daemon=True)
        process.start()
        self.process = process
        if self.killed:  # while it was starting, when `kill` may not have seen it
            process.kill()
        theirs.close()
        try:
            self.pipe.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("A decoding process could not start; see above.") from error

    def kill(self) -> None:
        """Ends the process and all later ones at once; may be called from another thread."""
        self.killed = True
        process = self.process
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """Ends the process and closes its pipe."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None


class _SpawnProcess(multiprocessing.context.SpawnProcess):
    """A process that does not import the main script, and so does not import TFDS."""

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
    """Runs in a decoding process: reports that it is ready, then decodes the items it receives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        pipe.send(None)
        while True:
            pipe.send(decode(pipe.recv()))


def _end_with_parent() -> None:
    """Ends this process when its parent has ended, for example because it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
