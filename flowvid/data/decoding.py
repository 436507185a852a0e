"""Reads clips and images from untrusted files, within bounds of memory and time.

A file may be empty, truncated, of another type than its name says, huge or endless. Reading always
ends soon, and either returns the requested frames or raises a `ClipError` with the reason.
"""

import contextlib
import io
import itertools
import math
import os
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
from av.stream import Disposition
from jaxtyping import UInt8

from flowvid.data import pictures
from flowvid.data.framing import Filters, Frame, Framing, display_matrix
from flowvid.errors import ClipError, whole_number
from flowvid.paths import expand
from flowvid.sizes import SizeLike

CLIP_SUFFIXES = frozenset(
    ".mp4 .m4v .m4p .mov .qt .3gp .3gpp .3g2 .mj2 .insv .lrv .mkv .webm .avi .divx .amv .gif .apng "
    ".mpg .mpeg .mpe .m1v .m2v .vob .mod .ts .mts .m2ts .m2t .tod .wmv .asf .wtv .flv .f4v .ogv "
    ".ogm .rm .rmvb .mxf .dv .nut .y4m .ivf .mjpeg .mjpg .264 .h264 .265 .hevc .fli .flc".split()
)
IMAGE_SUFFIXES = pictures.SUFFIXES
MAX_SECONDS = 60.0  # per clip

# Formats that contain frames themselves. Playlists, which make FFmpeg open other files, are not
# among them, whatever the name of a file is.
_FORMATS = (
    "mov,mp4,matroska,webm,avi,gif,apng,mpeg,mpegvideo,mpegts,asf,wtv,flv,ogg,rm,mxf,dv,nut,"
    "yuv4mpegpipe,ivf,mjpeg,jpeg_pipe,h264,hevc,flic"
)


def read_clip(
    path: str | Path, num_frames: int | None, image_size: SizeLike
) -> UInt8[np.ndarray, "time height width 3"]:
    """Returns the first frames of the clip at a path, as `decode_clip` does; None returns all.

    An image is a clip of one frame. In the path, ~ stands for the home folder.

    Raises:
      ClipError: naming the path and the reason.
      ConfigError: as `decode_clip` does.
    """
    with _opened(path) as file:
        return decode(file, os.fspath(path), num_frames, image_size)


def iterate(
    path: str | Path, image_size: SizeLike
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Yields the frames of the clip or image at a path, one at a time, however long it takes.

    Raises:
      ClipError: naming the path and the reason.
    """
    with _opened(path) as file:
        if _is_image(file, os.fspath(path)):
            yield from decode_image(file, image_size)
            return
        framing = Framing(image_size)
        for frame in _frames(file, math.inf):
            yield framing(frame)


def is_single(path: str | Path) -> bool:
    """Returns whether the clip or image at a path is a single frame, whatever its name ends in.

    Raises:
      ClipError: naming the path and the reason.
    """
    with _opened(path) as file:
        if _is_image(file, os.fspath(path)):
            return True
        frames = _frames(file, time.monotonic() + MAX_SECONDS)
        return len(list(itertools.islice(frames, 2))) == 1


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[IO[bytes]]:
    """Opens a file; what goes wrong with it is a `ClipError` that names its path."""
    try:
        with open(expand(path), "rb") as file:
            yield file
    except OSError as error:
        raise ClipError(f"{path}: not readable ({error.strerror}); check the file.") from error
    except ClipError as error:
        raise ClipError(f"{path}: {error}; check the file.") from error


def decode(
    file: IO[bytes],
    name: str,
    num_frames: int | None,
    image_size: SizeLike,
    start: int = 0,
    stride: int = 1,
) -> UInt8[np.ndarray, "time height width 3"]:
    """Decodes a clip or, if its name ends as that of an image, an image as a clip of one frame.

    The other arguments and the errors are those of `decode_clip`.
    """
    if not _is_image(file, name):
        return decode_clip(file, num_frames, image_size, start, stride)
    if (needed := _needed(num_frames, start, stride)) > 1:
        raise ClipError(f"1 frame, but {needed} are needed")
    return decode_image(file, image_size)


def _is_image(file: IO[bytes], name: str) -> bool:
    is_named_so = os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
    return is_named_so and not pictures.is_animated_webp(file)


def decode_clip(
    file: IO[bytes], num_frames: int | None, image_size: SizeLike, start: int = 0, stride: int = 1
) -> UInt8[np.ndarray, "time height width 3"]:
    """Decodes frames start, start + stride, ..., upright, cropped and averaged by area.

    Frames are counted as they are stored, whatever their durations. Nothing after the last
    requested frame is decoded. Grey becomes three equal channels. FFmpeg decodes, crops and scales;
    Pillow decodes animated WebP and single pictures. `framing.Framing` says how frames are turned
    and composed.

    Args:
      file: a seekable binary file.
      num_frames: the number of frames to keep; None reads to the end.
      image_size: size of the result, such as 64 or 48x96 (`Size.of`).
      start: the index of the first frame to keep.
      stride: the distance between the indices of frames to keep.

    Raises:
      ClipError: if the file cannot be read, is too short, has frames of more than
        `pictures.MAX_PIXELS`,
        or takes longer than `MAX_SECONDS`; the message is the reason alone.
      ConfigError: if `num_frames`, `stride` or `image_size` is below 1, or `start` below 0.
    """
    needed = _needed(num_frames, start, stride)
    end = None if num_frames is None else needed
    frames: list[np.ndarray] = []
    count = 0
    framing = Framing(image_size)
    deadline = time.monotonic() + MAX_SECONDS
    for frame in itertools.islice(_frames(file, deadline), end):
        if count >= start and (count - start) % stride == 0:
            frames.append(framing(frame))
        count += 1
    if not frames or (end is not None and count < end):
        raise ClipError(f"{count} frames, but {needed} are needed")
    return np.stack(frames)


def _needed(num_frames: int | None, start: int, stride: int) -> int:
    """Returns how many frames a clip must have, of checked numbers."""
    count = 1 if num_frames is None else whole_number("num_frames", num_frames, 1)
    first, step = whole_number("start", start, 0), whole_number("stride", stride, 1)
    return first + (count - 1) * step + 1


def decode_image(file: IO[bytes], image_size: SizeLike) -> UInt8[np.ndarray, "1 height width 3"]:
    """Decodes an image as a clip of one frame: upright, cropped, averaged by area.

    Raises:
      ClipError: if the file cannot be read, is an animation, or has more than
        `pictures.MAX_PIXELS`; the message is the reason alone.
    """
    return framed_image(pictures.decode(file), image_size)[None]


def decode_images(
    encoded: Iterable[bytes], image_size: SizeLike
) -> UInt8[np.ndarray, "time height width 3"]:
    """Decodes the contents of image files, each as `decode_image` does, as frames of a clip."""
    framing = Framing(image_size)
    images = (pictures.decode(io.BytesIO(content)) for content in encoded)
    frames = (av.VideoFrame.from_ndarray(image, format="rgb24") for image in images)
    return np.stack([framing(Frame(frame)) for frame in frames])


def framed_image(
    image: UInt8[np.ndarray, "rows columns 3"], image_size: SizeLike
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the centre of an image in the shape of a size, averaged by area."""
    return Framing(image_size)(Frame(av.VideoFrame.from_ndarray(image, format="rgb24")))


def _check_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise ClipError(f"took longer than {MAX_SECONDS:.0f} seconds")


def _frames(file: IO[bytes], deadline: float) -> Iterator[Frame]:
    """Yields the frames of a clip, or the one of a picture, until the deadline."""
    if pictures.is_animated_webp(file):
        yield from _webp_frames(file, deadline)
    elif pictures.is_still(file):
        yield Frame(av.VideoFrame.from_ndarray(pictures.decode(file), format="rgb24"))
    else:
        yield from _ffmpeg_frames(file, deadline)


def _webp_frames(file: IO[bytes], deadline: float) -> Iterator[Frame]:
    """Yields the frames of an animated WebP until the deadline."""
    for picture in pictures.animation(file):
        yield Frame(av.VideoFrame.from_ndarray(picture, format="rgb24"))
        _check_time(deadline)


def _ffmpeg_frames(file: IO[bytes], deadline: float) -> Iterator[Frame]:
    """Yields the decoded frames of the best video stream until the deadline."""
    try:
        # Titles are not read, so they need not be UTF-8.
        options = {"format_whitelist": _FORMATS}
        with av.open(file, "r", options=options, metadata_errors="ignore") as container:
            yield from _stream_frames(container, deadline)
    except (av.FFmpegError, OSError) as error:
        raise ClipError(f"not readable as video ({error.strerror or error})") from error


def _stream_frames(container: av.container.InputContainer, deadline: float) -> Iterator[Frame]:
    stream = _best_stream(container)
    if stream.codec_context is None:
        raise ClipError("no decoder for its video stream")
    # Clips are decoded in parallel by processes; threads within these would only take memory.
    stream.thread_type = "NONE"
    pictures.check_size(stream.codec_context.width, stream.codec_context.height)
    decoder = _decoder(stream)
    has_padding = _has_padding(stream.codec_context)
    of_container, first = stream.sample_aspect_ratio, decoder.sample_aspect_ratio
    matrix, filters = None, Filters()
    for packet in container.demux(stream):
        if packet.pts is not None and not packet.size:  # repeats a frame in Theora; not a frame
            continue
        for frame in decoder.decode(packet):
            pictures.check_size(frame.width, frame.height)
            # What the container says holds until the stream itself says something new.
            now = decoder.sample_aspect_ratio
            aspect = (of_container if now == first else now) or Fraction(1)
            # A matrix holds until there is another: APNG and H.264 state it once.
            found = display_matrix(frame, filters)
            matrix = matrix if found is None else found
            yield Frame(frame, aspect, matrix, has_padding)
        _check_time(deadline)


def _best_stream(container: av.container.InputContainer) -> av.VideoStream:
    """Returns the video stream that the ffmpeg program takes: the default one, or the largest.

    Raises:
      ClipError: if there is none; pictures attached to sound are no video.
    """
    streams = container.streams.video
    videos = [s for s in streams if not s.disposition & Disposition.attached_pic]
    if not videos:
        raise ClipError("no video stream" + (", only an attached picture" if streams else ""))

    def rank(stream: Any) -> int:
        size = stream.width * stream.height if stream.codec_context else -1
        return size + 5_000_000 * bool(stream.disposition & Disposition.default)

    return max(videos, key=rank)


def _decoder(stream: av.VideoStream) -> av.VideoCodecContext:
    """Returns the decoder of a stream: libvpx for VP8 and VP9 with transparency, which it reads."""
    # Tags that are stored in Matroska are in upper case, those that FFmpeg adds in lower case.
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    if tags.get("alpha_mode") == "1" and stream.codec_context.name in ("vp8", "vp9"):
        library = "libvpx" if stream.codec_context.name == "vp8" else "libvpx-vp9"
        decoder = av.CodecContext.create(library, "r")
        assert isinstance(decoder, av.VideoCodecContext)
        return decoder
    return stream.codec_context


def _has_padding(codec: av.VideoCodecContext) -> bool:
    """Returns whether frames are bitmaps of Windows (BI_RGB), whose fourth byte is not used."""
    is_bitmap = codec.name == "rawvideo" and not codec.codec_tag.strip("\0")
    return is_bitmap and codec.pix_fmt == "bgra"
