"""Writes clips, images and contact sheets.

A video is `uint8[time, height, width, 3]`, RGB.
"""

import io
import itertools
import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import av
import imageio.v3 as iio
import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import GifImagePlugin, Image, ImageChops, ImageDraw, ImageFont

from flowvid import paths
from flowvid.errors import ClipError
from flowvid.paths import expand

_TARGET_SIZE = 256  # pixels; small frames are enlarged to about this size
_GAP = 2  # pixels between the frames of a contact sheet
_LINE_HEIGHT = 16  # pixels of a line of text
_MAX_GIF_FPS = 50
_ONE_PIXEL = (0, 0, 1, 1)  # what is stored of a frame that equals the one before
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def write_video(
    path: str | Path,
    video: UInt8[np.ndarray, "time height width 3"],
    fps: int = 10,
    scale: int | None = None,
) -> None:
    """Writes a GIF, H.264 MP4 or VP9 WebM, according to the suffix; creates missing folders.

    Args:
      path: ends in `.gif`, `.mp4` or `.webm`; ~ stands for the home folder.
      video: the frames.
      fps: frames per second; a GIF has 50 at most.
      scale: the factor by which height and width grow; None enlarges to about 256 pixels.

    Raises:
      ClipError: if the suffix is another one, or if the file cannot be written; nothing of it is
        left then.
    """
    path = expand(path)
    encoders = {".gif": _encode_gif, ".mp4": _encode_mp4, ".webm": _encode_webm}
    suffix = path.suffix.lower()
    if suffix not in encoders:
        raise ClipError(f"{path}: cannot write {path.suffix!r}; use one of {', '.join(encoders)}.")
    _write_whole(path, encoders[suffix](_enlarge(video, scale), fps))


def write_lossless(
    path: Path, frames: Iterable[UInt8[np.ndarray, "height width 3"]], kind: str, fps: int
) -> None:
    """Writes frames as they come, without loss; the file or folder is whole, or not there.

    Args:
      path: without a suffix.
      frames: at least one.
      kind: "mkv", a video of FFV1 in RGB, or "png", a folder of images.
      fps: frames per second of a video.
    """
    if kind == "mkv":
        with paths.whole_file(path.with_suffix(".mkv")) as file:
            _write_ffv1(file, frames, fps)
        return
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for number, frame in enumerate(frames):
            write_image(part / f"{number:05d}.png", frame)
        shutil.rmtree(path, ignore_errors=True)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_ffv1(file: io.BufferedIOBase, frames: Iterable[np.ndarray], fps: int) -> None:
    with av.open(file, "w", format="matroska") as container:
        stream = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("ffv1", rate=fps)
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "bgr0"
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")
            container.mux(stream.encode(picture))
        if stream is not None:
            container.mux(stream.encode(None))


def write_image(path: str | Path, image: UInt8[np.ndarray, "height width 3"]) -> None:
    """Writes an image in the format of the path's suffix; creates missing folders.

    Raises:
      ClipError: if the file cannot be written; nothing of it is left then.
    """
    path = expand(path)
    _write_whole(path, iio.imwrite("<bytes>", image, extension=path.suffix.lower()))


def _write_whole(path: Path, data: bytes) -> None:
    """Writes a file under another name first, so that there is the whole file or none."""
    try:
        with paths.whole_file(path) as file:
            file.write(data)
    except OSError as error:
        raise ClipError(
            f"{path} cannot be written ({error.strerror}): free space there, or use another folder."
        ) from error


def contact_sheet(
    videos: UInt8[np.ndarray, "video time height width 3"],
    *,
    columns: int = 10,
    scale: int | None = None,
    captions: Sequence[str] = (),
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Draws one row of frames for each video, evenly spaced from the first to the last frame.

    Args:
      videos: the videos, at least one.
      columns: frames per row; of videos with fewer frames, all are shown.
      scale: the factor by which frames grow; None enlarges them to about 96 pixels.
      captions: either empty or one text per row, drawn at its left.

    Raises:
      ValueError: if the number of captions is neither zero nor the number of videos.
    """
    if captions and len(captions) != len(videos):
        raise ValueError(f"{len(captions)} captions for {len(videos)} videos; give one for each.")
    times = np.linspace(0, videos.shape[1] - 1, min(columns, videos.shape[1])).round().astype(int)
    frames = _enlarge(videos[:, times], scale, target_size=96)
    height, width = frames.shape[2:4]

    font = ImageFont.load_default()
    left = _GAP + max((int(font.getlength(text)) + 4 * _GAP for text in captions), default=0)
    row_height = max(height, _LINE_HEIGHT if captions else 0) + _GAP
    sheet = Image.new(
        "RGB",
        (
            left + len(times) * (width + _GAP),
            _GAP + len(videos) * row_height,
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    top = _GAP
    for row, video in enumerate(frames):
        if captions:
            draw.text((2 * _GAP, top + height // 2), captions[row], _INK, font, anchor="lm")
        for column, frame in enumerate(video):
            sheet.paste(Image.fromarray(frame), (left + column * (width + _GAP), top))
        top += row_height
    return np.asarray(sheet)


def image_grid(
    images: UInt8[np.ndarray, "image height width 3"], labels: Sequence[str] = ()
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Draws images in a grid; given one label per image, each row shows images of one label."""
    names = np.array(labels or [""] * len(images))
    groups = {name: images[names == name] for name in dict.fromkeys(names.tolist())}
    columns = min(math.ceil(math.sqrt(len(images))), max(map(len, groups.values())))
    rows, captions = [], []
    for name, group in groups.items():
        for start in range(0, len(group), columns):
            part = group[start : start + columns]
            row = np.full(
                (columns, *images.shape[1:]), 255, np.uint8
            )  # white where there is no image
            row[: len(part)] = part
            rows.append(row)
            captions.append(name)
    return contact_sheet(np.stack(rows), columns=columns, captions=captions if labels else ())


def _enlarge(frames: np.ndarray, scale: int | None, target_size: int = _TARGET_SIZE) -> np.ndarray:
    if scale is None:
        scale = max(1, target_size // max(frames.shape[-3:-1]))
    return frames.repeat(scale, axis=-3).repeat(scale, axis=-2)


def _encode_gif(video: np.ndarray, fps: int) -> bytes:
    """Keeps every frame, equal ones included, which Pillow's own writer would merge."""
    if fps > _MAX_GIF_FPS:
        logging.log_first_n(
            logging.WARNING,
            "GIFs play at %d frames per second at most, not %d: use MP4 for more.",
            1,
            _MAX_GIF_FPS,
            fps,
        )
    images = [Image.fromarray(frame) for frame in video]
    indexed = [image.convert("P", palette=Image.Palette.ADAPTIVE) for image in images]
    header, _ = GifImagePlugin.getheader(indexed[0], info={"loop": 0, "duration": 10})
    regions = [(0, 0, *images[0].size)] + [
        ImageChops.difference(*pair).getbbox() or _ONE_PIXEL for pair in itertools.pairwise(images)
    ]
    parts = [*header]
    for image, region, hundredths in zip(
        indexed, regions, gif_durations(len(video), fps), strict=True
    ):
        options = {"duration": 10 * hundredths, "include_color_table": True}
        parts += GifImagePlugin.getdata(image.crop(region), region[:2], **options)
    return b"".join([*parts, b";"])


def gif_durations(num_frames: int, fps: int) -> list[int]:
    """Returns how long each frame of a GIF is shown, in hundredths of a second, a GIF's unit.

    Durations differ by at most 1, so that every frame appears within half a hundredth of its time.
    None is below 2: browsers show frames of 1 for 10.
    """
    times = [round(100 * index / min(fps, _MAX_GIF_FPS)) for index in range(num_frames + 1)]
    return [after - before for before, after in itertools.pairwise(times)]


def _encode_mp4(video: np.ndarray, fps: int) -> bytes:
    # yuv420p stores colour at half resolution: the last row or column of an odd side is repeated.
    _, height, width, _ = video.shape
    video = np.pad(video, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return _encode(video, ".mp4", codec="libx264", fps=fps, out_pixel_format="yuv420p")


def _encode_webm(video: np.ndarray, fps: int) -> bytes:
    # Colour at full resolution, since single pixels of small videos are visible.
    return _encode(video, ".webm", codec="libvpx-vp9", fps=fps, out_pixel_format="yuv444p")


def _encode(video: np.ndarray, extension: str, **options: Any) -> bytes:
    data: bytes = iio.imwrite("<bytes>", video, plugin="pyav", extension=extension, **options)
    return data
