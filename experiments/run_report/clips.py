"""Clips in the report page: looping videos and images as data URIs."""

import base64
import pathlib
import tempfile
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from flowvid.data import media

Video = UInt8[np.ndarray, "frames height width channels"]


class Clip(NamedTuple):
    """A clip that the page holds."""

    uri: str
    caption: str
    is_video: bool


class Section(NamedTuple):
    """A section of the page: a title, a text, perhaps a table, and rows of clips."""

    title: str
    text: str
    rows: list[list[Clip]]
    table: str = ""


def clip(video: Video, caption: str, fps: int = 10) -> Clip:
    """Returns a looping video, or an image where there is a single frame."""
    is_video = len(video) > 1
    suffix, kind = (".webm", "video/webm") if is_video else (".png", "image/png")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"clip{suffix}"
        if is_video:
            media.write_video(path, video, fps, scale=1)
        else:
            media.write_image(path, video[0])
        encoded = base64.b64encode(path.read_bytes()).decode()
    return Clip(f"data:{kind};base64,{encoded}", caption, is_video)
