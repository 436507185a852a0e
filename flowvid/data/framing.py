"""Turns decoded frames into what the models see: upright, opaque, and of the model's size.

Clips and images share this module, so that both are turned, composed, cropped and scaled alike.
"""

from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type
from jaxtyping import UInt8

from flowvid.sizes import Size, SizeLike

_GROUND = 255  # grey level behind transparent pixels: white, as a page shows them
# PyAV refuses to list a frame's side data if it knows one kind less than FFmpeg: Exif, for one.
_UNKNOWN_KINDS = range(len(Type), len(Type) + 16)


class Frame(NamedTuple):
    """A decoded frame, and how it is shown.

    Attributes:
      picture: the frame as it was decoded.
      pixel_aspect: the width of its pixels divided by their height.
      matrix: the display matrix that turns and mirrors it, as `display_matrix` returns it.
      has_padding: whether the fourth channel holds nothing, although its format calls it alpha.
    """

    picture: av.VideoFrame
    pixel_aspect: Fraction = Fraction(1)
    matrix: np.ndarray | None = None
    has_padding: bool = False


class Filters:
    """FFmpeg's filters; their graphs are kept for the next frame of the same kind."""

    def __init__(self) -> None:
        self.graphs: dict[tuple, Graph] = {}

    def __call__(self, frame: av.VideoFrame, *filters: tuple[str, str]) -> av.VideoFrame:
        """Returns a frame after filters, each given by its name and its arguments."""
        kind = (frame.width, frame.height, frame.format.name, filters)
        if kind not in self.graphs:
            graph = Graph()
            source = graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=Fraction(1, 1000),
            )
            self.graphs[kind] = graph.link_nodes(
                source, *(graph.add(*given) for given in filters), graph.add("buffersink")
            )
        self.graphs[kind].push(frame)
        filtered = self.graphs[kind].pull()
        assert isinstance(filtered, av.VideoFrame)
        return filtered


class Framing:
    """Crops frames around their centre, scales, turns and mirrors them, with FFmpeg's filters.

    What is left by the crop has the shape of the result, such as a square. A display matrix is
    rounded to the nearest quarter turn. Transparent pixels are composed on white. Where pixels are
    not square, the shape is one of the picture as it is shown.
    """

    def __init__(self, image_size: SizeLike) -> None:
        """Keeps the size of the result; raises a `ConfigError` for anything that is no size."""
        self.image_size = Size.of(image_size)
        self.filters = Filters()

    def __call__(self, frame: Frame) -> UInt8[np.ndarray, "height width 3"]:
        """Returns a frame as RGB."""
        picture = frame.picture
        size = self.image_size
        if _is_turned(frame.matrix):  # after the crop
            size = Size(size.width, size.height)
        width, height = _shown_as(size, picture.width, picture.height, frame.pixel_aspect)
        crop = ("crop", f"{width}:{height}")
        if _has_alpha(picture) and not frame.has_padding:
            rgba = self.filters(picture, crop, ("format", "rgba"))
            opaque = compose(rgba.to_ndarray())
            image = self.filters(av.VideoFrame.from_ndarray(opaque), *_scaling(size))
        else:
            image = self.filters(picture, crop, *_scaling(size))
        return _upright(image.to_ndarray(), frame.matrix)


def _scaling(size: Size) -> tuple[tuple[str, str], ...]:
    # RGB before scaling, with full chroma: otherwise colours keep only half of the columns.
    scale = f"{size.width}:{size.height}:flags=area+full_chroma_inp+full_chroma_int"
    return (("format", "rgb24"), ("scale", scale))


def compose(
    rgba: UInt8[np.ndarray, "height width 4"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Composes transparent pixels on white."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return np.rint(rgba[..., :3] * alpha + _GROUND * (1 - alpha)).astype(np.uint8)


def _shown_as(size: Size, width: int, height: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """Returns width and height, in stored pixels, of the largest region shown in a size's shape."""
    aspect = Fraction(size.width, size.height)
    tall = min(width * pixel_aspect / aspect, Fraction(height))  # in units of a pixel's height
    return max(1, round(tall * aspect / pixel_aspect)), max(1, round(tall))


def _has_alpha(frame: av.VideoFrame) -> bool:
    pixels = frame.format
    return pixels.has_palette or any(component.is_alpha for component in pixels.components)


def display_matrix(picture: av.VideoFrame, filters: Filters) -> np.ndarray | None:
    """Returns the display matrix that a decoded frame carries, as nine integers, or None."""
    side_data: Any  # PyAV declares a type of its own for it
    try:
        side_data = picture.side_data
    except ValueError:
        deletions = [("sidedata", f"mode=delete:type={kind}") for kind in _UNKNOWN_KINDS]
        side_data = filters(picture, *deletions).side_data
    found = [data for data in side_data if data.type == Type.DISPLAYMATRIX]
    return np.frombuffer(bytes(found[0]), np.int32) if found else None


def _upright(
    image: UInt8[np.ndarray, "rows columns 3"], matrix: np.ndarray | None
) -> UInt8[np.ndarray, "height width 3"]:
    """Turns and mirrors an image as a display matrix says.

    The matrix maps a stored pixel (x, y) to its place (a x + c y, b x + d y) on the screen.
    """
    if matrix is None:
        return image
    a, b, c, d = _turn(matrix)
    if _is_turned(matrix):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _turn(matrix: np.ndarray) -> tuple[np.int64, np.int64, np.int64, np.int64]:
    """Returns a, b, c and d of a display matrix, whose absolute values do not overflow."""
    a, b, _, c, d = matrix[:5].astype(np.int64)
    return a, b, c, d


def _is_turned(matrix: np.ndarray | None) -> bool:
    """Returns whether a display matrix is nearest to a quarter turn, which swaps the sides."""
    if matrix is None:
        return False
    a, b, c, d = _turn(matrix)
    return bool(abs(b) + abs(c) > abs(a) + abs(d))
