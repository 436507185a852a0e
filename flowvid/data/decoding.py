"""Reads clips and images from untrusted files, within bounds of memory and time.

A file may be empty, truncated, of another type than its name says, huge or endless. Reading always
ends soon, and either returns the requested frames or raises a `ClipError` with the reason.
"""

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import numpy as np
from av.filter import Graph
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from flowvid.errors import ClipError

CLIP_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".wmv", ".flv")
)
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"))
MAX_PIXELS = 2**25  # per frame: 8192 x 4096, which takes 100 MB as RGB
MAX_SECONDS = 60.0  # per clip

# Formats that contain frames themselves. Playlists, which make FFmpeg open other files, are not
# among them, whatever the name of a file is.
_FORMATS = "mov,mp4,matroska,webm,avi,gif,mpeg,mpegvideo,mpegts,asf,flv,ogg"


def read_clip(
    path: str | Path, num_frames: int | None, image_size: int
) -> UInt8[np.ndarray, "time size size 3"]:
    """Returns the first frames of the clip at a path, as `decode_clip` does; None returns all.

    Raises:
      ClipError: naming the path and the reason.
    """
    try:
        with open(path, "rb") as file:
            return decode_clip(file, num_frames, image_size)
    except OSError as error:
        raise ClipError(f"{path}: not readable ({error.strerror}); check the file.") from error
    except ClipError as error:
        raise ClipError(f"{path}: {error}; check the file.") from error


def decode_clip(
    file: IO[bytes], num_frames: int | None, image_size: int, start: int = 0, stride: int = 1
) -> UInt8[np.ndarray, "time size size 3"]:
    """Decodes frames start, start + stride, ..., upright, as centre squares averaged by area.

    Frames are counted as they are stored, whatever their durations. Nothing after the last
    requested frame is decoded. Grey becomes three equal channels. FFmpeg decodes, crops and scales.

    Args:
      file: a seekable binary file.
      num_frames: the number of frames to keep; None reads to the end.
      image_size: height and width of the result, in pixels.
      start: the index of the first frame to keep.
      stride: the distance between the indices of frames to keep.

    Raises:
      ClipError: if the file cannot be read, is too short, has frames of more than `MAX_PIXELS`,
        or takes longer than `MAX_SECONDS`; the message is the reason alone.
    """
    end = None if num_frames is None else start + (num_frames - 1) * stride + 1
    frames: list[np.ndarray] = []
    count = 0
    square = _Square(image_size)
    try:
        options = {"format_whitelist": _FORMATS}
        # Titles are not read, so they need not be UTF-8.
        with av.open(file, "r", options=options, metadata_errors="ignore") as container:
            for frame in _frames(container):
                if count >= start and (count - start) % stride == 0:
                    frames.append(square(frame))
                count += 1
                if count == end:
                    break
    except (av.FFmpegError, OSError) as error:
        raise ClipError(f"not readable as video ({error.strerror or error})") from error
    if not frames or (end is not None and count < end):
        raise ClipError(f"{count} frames, but {end or start + 1} are needed")
    return np.stack(frames)


def decode_image(file: IO[bytes], image_size: int) -> UInt8[np.ndarray, "1 size size 3"]:
    """Decodes an image as a clip of one frame: upright, the centre square, averaged by area.

    Raises:
      ClipError: if the file cannot be read or has more than `MAX_PIXELS`; the message is the
        reason alone.
    """
    try:
        with Image.open(file) as image:
            _check_size(image.width, image.height)
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
                grey = np.asarray(upright) / 257
                upright = Image.fromarray(np.rint(grey.clip(0, 255)).astype(np.uint8))
            pixels = np.asarray(upright.convert("RGB"))
    except ClipError:
        raise
    except UnidentifiedImageError as error:
        raise ClipError("not readable as an image (unknown format)") from error
    except Exception as error:  # Pillow raises errors of many types
        raise ClipError(f"not readable as an image ({error})") from error
    return square_image(pixels, image_size)[None]


def square_image(
    image: UInt8[np.ndarray, "height width 3"], image_size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Returns the centre square of an image, averaged by area."""
    return _Square(image_size)(av.VideoFrame.from_ndarray(image, format="rgb24"))


def _frames(container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
    """Yields the decoded frames of the first video stream until the time limit."""
    if not container.streams.video:
        raise ClipError("no video stream")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise ClipError("no decoder for its video stream")
    # Clips are decoded in parallel by processes; threads within these would only take memory.
    stream.thread_type = "NONE"
    _check_size(stream.codec_context.width, stream.codec_context.height)
    deadline = time.monotonic() + MAX_SECONDS
    for packet in container.demux(stream):
        for frame in packet.decode():
            _check_size(frame.width, frame.height)
            yield frame
        if time.monotonic() > deadline:
            raise ClipError(f"took longer than {MAX_SECONDS:.0f} seconds")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ClipError(f"{width}x{height} pixels, but at most {MAX_PIXELS} are read")


class _Square:
    """Crops frames to their centre square, scales and rotates them, with FFmpeg's filters."""

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size
        self.graphs: dict[tuple[int, int, str], Graph] = {}  # by width, height and pixel format

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Returns the frame as uint8[size, size, 3]."""
        kind = (frame.width, frame.height, frame.format.name)
        if kind not in self.graphs:
            self.graphs[kind] = self._graph(frame)
        self.graphs[kind].push(frame)
        image = self.graphs[kind].pull().to_ndarray()
        return np.rot90(image, frame.rotation // 90)

    def _graph(self, frame: av.VideoFrame) -> Graph:
        side, graph = min(frame.width, frame.height), Graph()
        size = f"{self.image_size}:{self.image_size}"
        return graph.link_nodes(
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=Fraction(1, 1000),
            ),
            graph.add("crop", f"{side}:{side}"),
            # RGB before scaling, with full chroma: otherwise colours keep only half of the columns.
            graph.add("format", "rgb24"),
            graph.add("scale", f"{size}:flags=area+full_chroma_inp+full_chroma_int"),
            graph.add("buffersink"),
        )
