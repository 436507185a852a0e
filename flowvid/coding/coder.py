"""Sends clips to a file with a range coder and a trained model, and receives them.

The range coder is that of `constriction`. It turns the masses of bins, which are floats, into
tables of whole numbers. The tables are the same on both sides if the masses are, bit for bit; for
these, `frames` runs the same programs. Other machines and versions of JAX round differently, so the
header names them, and a file is refused elsewhere.
"""

import hashlib
import io
import os
import platform
import zlib
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any, NamedTuple

import constriction
import jax
import numpy as np
from jaxtyping import Float, Int

from flowvid.coding import container
from flowvid.coding.container import NewClip
from flowvid.coding.frames import Clip, Frame, check
from flowvid.config.schema import Config
from flowvid.data import sources
from flowvid.errors import ClipError
from flowvid.video.model import Model

_GROUP = (
    32  # frames that a range coder sends before it ends: a word and checksums are lost for each
)
_WORD = np.dtype("<u4")
_TABLES = constriction.stream.model.Categorical(perfect=False)
_LEAST_MASS = 2.0**-24  # of these tables' entries


class Totals(NamedTuple):
    """What was sent."""

    clips: int
    frames: int
    ideal_bits: float  # -log2 of the masses


def header_of(model: Model) -> dict[str, Any]:
    """Returns what sender and receiver must agree on.

    Raises:
        ConfigError: for a run that cannot compress.
    """
    check(model.config)
    size = model.config.image_size
    return {"run": _digest(model), "machine": machine(), "height": size.height, "width": size.width}


def machine() -> str:
    """Returns what the rounding of a compiled program may depend on."""
    device = jax.devices()[0]
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{platform.machine()}, {device.platform} ({device.device_kind}), {threads} threads, "
        f"jax {jax.__version__}, constriction {metadata.version('constriction')}"
    )


def _digest(model: Model) -> str:
    """Returns a digest of what the model computes."""
    config = model.config
    fields: tuple[Any, ...] = (config.flow, config.flow_settings, config.context)
    fields += (config.context_settings, config.variant, config.levels)
    fields += (config.image_size.plain, config.compute_dtype)
    found = hashlib.sha256(repr(fields).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.params):
        found.update(jax.tree_util.keystr(path).encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


class _Sender:
    """Sends bins; a `frames.Code`."""

    def __init__(self) -> None:
        self._encoder = constriction.stream.queue.RangeEncoder()
        self.ideal_bits = 0.0

    def __call__(
        self, masses: Float[np.ndarray, "numbers bins"], bins: Int[np.ndarray, " numbers"]
    ) -> Int[np.ndarray, " numbers"]:
        own = np.take_along_axis(masses, bins[:, None], axis=1)
        self.ideal_bits -= float(np.sum(np.log2(np.maximum(own, _LEAST_MASS))))
        self._encoder.encode(bins, _TABLES, masses)
        return bins

    def words(self) -> bytes:
        """Returns all that was sent."""
        return self._encoder.get_compressed().astype(_WORD).tobytes()


class _Receiver:
    """Receives bins; a `frames.Code`."""

    def __init__(self, words: bytes) -> None:
        numbers = np.frombuffer(words, _WORD).astype(np.uint32)
        self._decoder = constriction.stream.queue.RangeDecoder(numbers)

    def __call__(
        self, masses: Float[np.ndarray, "numbers bins"], bins: Int[np.ndarray, " numbers"]
    ) -> Int[np.ndarray, " numbers"]:
        del bins  # they are not known yet
        found: np.ndarray = self._decoder.decode(_TABLES, masses)
        return found


def send(
    model: Model, clips: Iterable[sources.Clip], file: io.BufferedIOBase, on_frame: Any
) -> Totals:
    """Writes clips to a file.

    Args:
        model: of 8-bit bins.
        clips: with frames [H, W, 3] of the model's size; they are read one at a time.
        file: to write to.
        on_frame: is called after each frame.

    Raises:
        ConfigError: for a run that cannot compress.
    """
    writer = container.Writer(file, header_of(model))
    num_clips, num_frames, ideal_bits = 0, 0, 0.0
    for clip in clips:
        writer.clip(NewClip(clip.name, clip.label))
        walk = Clip(model.config, model.params, clip.label)
        for group in _groups(clip.frames):
            sender, checksum = _Sender(), 0
            for frame in group:
                checksum = zlib.crc32(walk.next(frame, sender).tobytes(), checksum)
                on_frame()
            writer.frames(container.Frames(checksum, len(group), sender.words()))
            ideal_bits += sender.ideal_bits
            num_frames += len(group)
        num_clips += 1
    writer.end()
    return Totals(num_clips, num_frames, ideal_bits)


def _groups(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    group: list[Frame] = []
    for frame in frames:
        group.append(frame)
        if len(group) == _GROUP:
            yield group
            group = []
    if group:
        yield group


def receive(model: Model, file: io.BufferedIOBase) -> Iterator[NewClip | Frame]:
    """Yields each clip of a file, and after it its frames, as soon as they are known to be right.

    Args:
        model: that the file was written with.
        file: that `send` wrote.

    Raises:
        ConfigError: for a run that cannot compress.
        ClipError: for a file that is damaged, of another model or of another machine; the message
            is the reason alone.
    """
    expected = header_of(model)
    config = model.config
    numbers = 3 * config.image_size.pixels + 1  # of a frame; none takes more than a word
    longest = 6 + _GROUP * 4 * numbers
    records = container.read(file, longest)
    _check_header(next(records), expected)
    walk: Clip | None = None
    for record in records:
        if isinstance(record, NewClip):
            _check_label(config, record.label)
            walk = Clip(config, model.params, record.label)
            yield record
        elif walk is None or not isinstance(record, container.Frames):
            raise ClipError("is damaged: it has frames before any clip")
        else:
            yield from _received(walk, record)


def _received(walk: Clip, record: container.Frames) -> list[Frame]:
    if not 0 < record.length <= _GROUP:
        raise ClipError(f"is damaged: {record.length} frames in a part of it")
    receiver = _Receiver(record.words)
    try:
        frames = [walk.next(None, receiver) for _ in range(record.length)]
    except AssertionError as error:  # constriction: no bin has these words
        raise ClipError(_NOT_THE_SAME) from error
    checksum = 0
    for frame in frames:
        checksum = zlib.crc32(frame.tobytes(), checksum)
    if checksum != record.checksum:
        raise ClipError(_NOT_THE_SAME)
    return frames


_NOT_THE_SAME = (
    "cannot be decompressed here: its frames are not those that were compressed, because this "
    "machine computes other probabilities; use the machine that wrote it"
)


def _check_header(found: Any, expected: dict[str, Any]) -> None:
    if not isinstance(found, dict) or set(found) != set(expected):
        raise ClipError("is damaged: its header lacks something")
    if found["run"] != expected["run"]:
        raise ClipError("was compressed with another model: use the run, step and weights of then")
    if found["machine"] != expected["machine"]:
        raise ClipError(
            f"was compressed on another machine, whose arithmetic differs: {found['machine']!r} "
            f"there, {expected['machine']!r} here"
        )
    if found != expected:
        raise ClipError("is damaged: its header does not fit the model")


def _check_label(config: Config, label: int) -> None:
    if not 0 <= label <= config.num_labels:
        raise ClipError(f"is damaged: there is no label {label}")
