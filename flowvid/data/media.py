"""Writes clips, images and contact sheets.

A video is `uint8[time, height, width, 3]`, RGB.
"""

import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from flowvid import paths
from flowvid.data.video_writer import VideoWriter, cannot_be_written, enlarged
from flowvid.paths import expand

_GAP = 2  # pixels between the frames of a contact sheet
_LINE_HEIGHT = 16  # pixels of a line of text
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def write_video(
    path: str | Path,
    video: UInt8[np.ndarray, "time height width 3"],
    fps: int = 10,
    scale: int | None = None,
) -> None:
    """Writes a GIF, H.264 MP4 or VP9 WebM, according to the suffix; creates missing folders.

    Args:
      path: ends in `.gif`, `.mp4` or `.webm`, as in `VideoWriter`.
      video: the frames.
      fps: frames per second; a GIF has 50 at most.
      scale: the factor by which height and width grow; None enlarges to about 256 pixels.

    Raises:
      ClipError: if the suffix is another one, or if the file cannot be written; nothing of it is
        left then.
    """
    with VideoWriter(path, fps, scale) as writer:
        for frame in video:
            writer.write(frame)


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
        with VideoWriter(path.with_suffix(".mkv"), fps, scale=1) as writer:
            for frame in frames:
                writer.write(frame)
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
        raise cannot_be_written(path, error) from error


def sheet_times(num_frames: int, columns: int = 10) -> list[int]:
    """Returns which frames of a video a contact sheet shows."""
    times = np.linspace(0, num_frames - 1, min(columns, num_frames))
    return [round(time) for time in times.tolist()]


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
    times = sheet_times(videos.shape[1], columns)
    frames = enlarged(videos[:, times], scale, target_size=96)
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
