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
    """A section of the page: a title, a text, perhaps a table and a picture, and rows of clips."""

    title: str
    text: str
    rows: list[list[Clip]]
    table: str = ""
    picture: str = ""  # a data URI


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
        return Clip(data_uri(path.read_bytes(), kind), caption, is_video)


def data_uri(content: bytes, kind: str) -> str:
    """Returns the content of a file of a MIME type as a URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
