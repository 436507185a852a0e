"""Writes clips, images and contact sheets.

A video is `uint8[time, height, width, 3]`, RGB.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from flowvid.errors import ClipError

_TARGET_SIZE = 256  # pixels; small frames are enlarged to about this size
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
      path: ends in `.gif`, `.mp4` or `.webm`.
      video: the frames.
      fps: frames per second.
      scale: the factor by which height and width grow; None enlarges to about 256 pixels.

    Raises:
      ClipError: if the suffix is another one.
    """
    path = Path(path)
    writers = {".gif": _write_gif, ".mp4": _write_mp4, ".webm": _write_webm}
    if path.suffix not in writers:
        raise ClipError(f"{path}: cannot write {path.suffix!r}; use one of {', '.join(writers)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    writers[path.suffix](path, _enlarge(video, scale), fps)


def write_image(path: str | Path, image: UInt8[np.ndarray, "height width 3"]) -> None:
    """Writes an image in the format of the path's suffix; creates missing folders."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, image)


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


def _write_gif(path: Path, video: np.ndarray, fps: int) -> None:
    iio.imwrite(path, video, duration=round(1000 / fps), loop=0)


def _write_mp4(path: Path, video: np.ndarray, fps: int) -> None:
    # yuv420p stores colour at half resolution: the last row or column of an odd side is repeated.
    _, height, width, _ = video.shape
    video = np.pad(video, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    iio.imwrite(path, video, plugin="pyav", codec="libx264", fps=fps, out_pixel_format="yuv420p")


def _write_webm(path: Path, video: np.ndarray, fps: int) -> None:
    # Colour at full resolution, since single pixels of small videos are visible.
    iio.imwrite(path, video, plugin="pyav", codec="libvpx-vp9", fps=fps, out_pixel_format="yuv444p")
