"""The file format of compressed clips: a header, then groups of frames, each with checksums.

A file is the eight bytes of `MAGIC`, a header, and records. Header and records begin with their
kind, one byte, and their length, four bytes; a checksum (CRC-32) follows. All is little-endian.

- "H", JSON: what sender and receiver must agree on, and the frames' size.
- "C", JSON: a clip begins; its name and label.
- "F", some frames of it: the checksum of their pixels, four bytes, then the range coder's words.
- "E", nothing: the end, so that a file that was cut off is known.

Nothing is read that is longer than it can be, so that a hostile file takes no memory.
"""

import io
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from flowvid.errors import ClipError

MAGIC = b"flowvid\x02"  # the last byte is the version of the format
SUFFIX = ".flv"
_LONGEST_JSON = 2**16
_HEADER, _CLIP, _FRAMES, _END = b"H", b"C", b"F", b"E"
_START = struct.Struct("<cI")
_CHECKSUM = struct.Struct("<I")


class Frames(NamedTuple):
    """Some frames of a clip, as the range coder leaves them."""

    checksum: int  # CRC-32 of their pixels
    length: int
    words: bytes


class NewClip(NamedTuple):
    """The beginning of a clip."""

    name: str
    label: int


class Writer:
    """Writes a file from its beginning to its end."""

    def __init__(self, file: io.BufferedIOBase, header: dict[str, Any]) -> None:
        """Writes the header."""
        self._file = file
        file.write(MAGIC)
        self._record(_HEADER, json.dumps(header).encode())

    def clip(self, clip: NewClip) -> None:
        """Begins a clip."""
        self._record(_CLIP, json.dumps(clip._asdict()).encode())

    def frames(self, frames: Frames) -> None:
        """Writes the next frames of the clip."""
        start = struct.pack("<IH", frames.checksum, frames.length)
        self._record(_FRAMES, start + frames.words)

    def end(self) -> None:
        """Ends the file."""
        self._record(_END, b"")

    def _record(self, kind: bytes, content: bytes) -> None:
        start = _START.pack(kind, len(content))
        self._file.write(start + content + _CHECKSUM.pack(zlib.crc32(start + content)))


def read(
    file: io.BufferedIOBase, longest_frames: int = 2**26
) -> Iterator[dict[str, Any] | NewClip | Frames]:
    """Yields the header, and then the records of a file.

    Args:
        file: that `Writer` wrote, or any other.
        longest_frames: the most bytes of a record of frames.

    Raises:
        ClipError: if it is no such file, of another version, damaged or cut off; the message is the
            reason alone.
    """
    start = file.read(len(MAGIC))
    if start[:-1] != MAGIC[:-1]:
        raise ClipError("is not a file that flowvid.compress wrote")
    if start != MAGIC:
        raise ClipError(
            f"has version {start[-1]} of the format, but this flowvid reads {MAGIC[-1]}: use the "
            "version of flowvid that wrote it"
        )
    kind, content = _record(file, _LONGEST_JSON)
    if kind != _HEADER:
        raise ClipError("is damaged: it does not begin with a header")
    yield _json(content)
    while True:
        kind, content = _record(file, longest_frames)
        if kind == _END:
            if file.read(1):
                raise ClipError("is damaged: there is something after its end")
            return
        yield _clip(content) if kind == _CLIP else _frames(kind, content)


def _record(file: io.BufferedIOBase, longest: int) -> tuple[bytes, bytes]:
    start = _exactly(file, _START.size)
    kind, length = _START.unpack(start)
    if length > longest:
        raise ClipError(f"is damaged: a part of {length} bytes is longer than any can be")
    content = _exactly(file, length)
    (checksum,) = _CHECKSUM.unpack(_exactly(file, _CHECKSUM.size))
    if zlib.crc32(start + content) != checksum:
        raise ClipError("is damaged: a checksum is wrong")
    return kind, content


def _exactly(file: io.BufferedIOBase, count: int) -> bytes:
    found = file.read(count)
    if len(found) < count:
        raise ClipError("is cut off")
    return found


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ClipError("is damaged: a part of it is not JSON") from error
    if not isinstance(found, dict):
        raise ClipError("is damaged: a part of it is not a JSON object")
    return found


def _clip(content: bytes) -> NewClip:
    found = _json(content)
    name, label = found.get("name"), found.get("label")
    if not isinstance(name, str) or type(label) is not int:
        raise ClipError("is damaged: a clip has no name or no label")
    return NewClip(name, label)


def _frames(kind: bytes, content: bytes) -> Frames:
    if kind != _FRAMES or len(content) < 6 or (len(content) - 6) % 4:
        raise ClipError("is damaged: it has a part that is none of the format's")
    checksum, length = struct.unpack("<IH", content[:6])
    return Frames(checksum, length, content[6:])
