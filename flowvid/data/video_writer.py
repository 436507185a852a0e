"""Writes videos frame by frame, however long they are: GIF, MP4, WebM, and lossless Matroska."""

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import GifImagePlugin, Image, ImageChops

from flowvid.errors import ClipError
from flowvid.paths import expand

_TARGET_SIZE = 256  # pixels; small frames are enlarged to about this size
_MAX_GIF_FPS = 50
_ERRORS = (OSError, av.FFmpegError)  # of writing
# Pillow holds the bytes of each frame of a GIF in a cycle of objects. Entry points collect these
# rarely (`flowvid.cli`), so we do after so many frames.
_COLLECTED = 20
_ONE_PIXEL = (0, 0, 1, 1)  # what is stored of a frame that equals the one before


class VideoWriter:
    """A context manager that writes a video; without an error, the file is there at its end.

    Until then its frames are in another file, so that there is the whole video or none. Without a
    frame there is none, either.
    """

    def __init__(self, path: str | Path, fps: int = 10, scale: int | None = None) -> None:
        """Chooses the format by the suffix.

        Args:
          path: ends in `.gif`, `.mp4` (H.264), `.webm` (VP9) or `.mkv` (FFV1, which loses nothing);
            ~ stands for the home folder. Missing folders are made.
          fps: frames per second; a GIF has 50 at most.
          scale: the factor by which height and width grow; None enlarges to about 256 pixels.

        Raises:
          ClipError: if the suffix is another one.
        """
        self.path = expand(path)
        suffix = self.path.suffix.lower()
        if suffix not in _ENCODERS:
            known = ", ".join(_ENCODERS)
            raise ClipError(f"{path}: cannot write {self.path.suffix!r}; use one of {known}.")
        self._encoder_of = _ENCODERS[suffix]
        self._fps, self._scale = fps, scale
        self._part = self.path.with_name(f".{self.path.name}.part")
        self._encoder: _Encoder | None = None  # from the first frame on

    def __enter__(self) -> "VideoWriter":
        with _as_clip_error(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def write(self, frame: UInt8[np.ndarray, "height width 3"]) -> None:
        """Adds a frame.

        Raises:
          ClipError: if the file cannot be written.
        """
        frame = enlarged(frame, self._scale)
        with _as_clip_error(self.path):
            if self._encoder is None:
                self._encoder = self._encoder_of(self._part, frame, self._fps)
            self._encoder.add(frame)

    def discard(self) -> None:
        """Leaves nothing of the video."""
        if self._encoder is not None:
            with contextlib.suppress(*_ERRORS):  # the disk may be full
                self._encoder.close()
            self._encoder = None
        self._part.unlink(missing_ok=True)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None and self._encoder is not None:
                with _as_clip_error(self.path):
                    self._encoder.finish()
                    self._encoder.close()
                    self._part.replace(self.path)
        finally:
            self.discard()


class _Encoder(Protocol):
    def add(self, frame: np.ndarray) -> None:
        """Writes a frame, or keeps it for later."""

    def finish(self) -> None:
        """Writes what is left."""

    def close(self) -> None:
        """Lets go of the file."""


class _Gif:
    """Keeps every frame, equal ones included, which Pillow's own writer would merge."""

    def __init__(self, path: Path, first: np.ndarray, fps: int) -> None:
        if fps > _MAX_GIF_FPS:
            logging.log_first_n(
                logging.WARNING,
                "GIFs play at %d frames per second at most, not %d: use MP4 for more.",
                1,
                _MAX_GIF_FPS,
                fps,
            )
        info = {"loop": 0, "duration": 10}
        header, _ = GifImagePlugin.getheader(_indexed(Image.fromarray(first)), info=info)
        self._file = path.open("wb")
        self._file.write(b"".join(header))
        self._durations = _gif_durations(fps)
        self._before: Image.Image | None = None
        self._count = 0

    def add(self, frame: np.ndarray) -> None:
        image = Image.fromarray(frame)
        region: Any = (0, 0, *image.size)
        if self._before is not None:
            region = ImageChops.difference(self._before, image).getbbox() or _ONE_PIXEL
        options = {"duration": 10 * next(self._durations), "include_color_table": True}
        parts = GifImagePlugin.getdata(_indexed(image).crop(region), region[:2], **options)
        self._file.write(b"".join(parts))
        self._before = image
        self._count += 1
        if self._count % _COLLECTED == 0:
            gc.collect(0)

    def finish(self) -> None:
        self._file.write(b";")

    def close(self) -> None:
        self._file.close()


def _indexed(image: Image.Image) -> Image.Image:
    return image.convert("P", palette=Image.Palette.ADAPTIVE)


def _gif_durations(fps: int) -> Iterator[int]:
    """Yields how long each frame of a GIF is shown, in hundredths of a second, a GIF's unit.

    Durations differ by at most 1, so that every frame appears within half a hundredth of its time.
    None is below 2: browsers show frames of 1 for 10.
    """
    number, time = 0, 0
    while True:
        number += 1
        after = round(100 * number / min(fps, _MAX_GIF_FPS))
        yield after - time
        time = after


class _Av:
    """Encodes by a codec of FFmpeg."""

    CONTAINER: str
    CODEC: str
    PIXELS: str  # as they are stored
    EVEN = False  # whether the sides must be even

    def __init__(self, path: Path, first: np.ndarray, fps: int) -> None:
        self._container = av.open(f"file:{path}", "w", format=self.CONTAINER)
        stream: Any = self._container.add_stream(self.CODEC, rate=fps)
        stream.height, stream.width = self._padded(first).shape[:2]
        stream.pix_fmt = self.PIXELS
        self._stream = stream

    def _padded(self, frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        if not self.EVEN or (height % 2 == width % 2 == 0):
            return frame
        return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")

    def add(self, frame: np.ndarray) -> None:
        pixels = np.ascontiguousarray(self._padded(frame))
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self._container.mux(self._stream.encode(picture.reformat(format=self.PIXELS)))

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))

    def close(self) -> None:
        self._container.close()


class _Mp4(_Av):
    # yuv420p stores colour at half resolution: the last row or column of an odd side is repeated.
    CONTAINER, CODEC, PIXELS, EVEN = "mp4", "libx264", "yuv420p", True


class _WebM(_Av):
    # Colour at full resolution, since single pixels of small videos are visible.
    CONTAINER, CODEC, PIXELS = "webm", "libvpx-vp9", "yuv444p"


class _Lossless(_Av):
    CONTAINER, CODEC, PIXELS = "matroska", "ffv1", "bgr0"


_ENCODERS: dict[str, Any] = {".gif": _Gif, ".mp4": _Mp4, ".webm": _WebM, ".mkv": _Lossless}


def enlarged(frames: np.ndarray, scale: int | None, target_size: int = _TARGET_SIZE) -> np.ndarray:
    """Returns frames [..., H, W, 3] with sides `scale` times as long; None aims at a size."""
    if scale is None:
        scale = max(1, target_size // max(frames.shape[-3:-1]))
    return frames.repeat(scale, axis=-3).repeat(scale, axis=-2)


def cannot_be_written(path: Path, error: Any) -> ClipError:
    """Returns the error that says what to do where a file cannot be written."""
    reason = error.strerror
    return ClipError(
        f"{path} cannot be written ({reason}): free space there, or use another folder."
    )


@contextlib.contextmanager
def _as_clip_error(path: Path) -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise cannot_be_written(path, error) from error
