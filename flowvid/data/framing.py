"""Turns decoded frames into what the models see: upright, opaque, square, and of the model's size.

Clips and images share this module, so that both are turned, composed, cropped and scaled alike.
"""

from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type
from jaxtyping import UInt8

_GROUND = 255  # grey level behind transparent pixels: white, as a page shows them
_SQUARE_PIXELS = Fraction(1)


class Framing:
    """Crops frames to their centre square, scales, turns and mirrors them, with FFmpeg's filters.

    A display matrix is rounded to the nearest quarter turn. Transparent pixels are composed on
    white. Where pixels are not square, the square is one of the picture as it is shown.
    """

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size
        self.graphs: dict[tuple, Graph] = {}

    def __call__(
        self, frame: av.VideoFrame, pixel_aspect: Fraction = _SQUARE_PIXELS
    ) -> UInt8[np.ndarray, "size size 3"]:
        """Returns a frame as RGB.

        Args:
          frame: the frame as it was decoded.
          pixel_aspect: the width of its pixels divided by their height.
        """
        width, height = _shown_as_square(frame.width, frame.height, pixel_aspect)
        if _has_alpha(frame):
            rgba = self._filtered(frame, ("crop", f"{width}:{height}"), ("format", "rgba"))
            opaque = compose(rgba.to_ndarray())
            image = self._filtered(av.VideoFrame.from_ndarray(opaque), *self._scaling())
        else:
            image = self._filtered(frame, ("crop", f"{width}:{height}"), *self._scaling())
        return _upright(image.to_ndarray(), frame)

    def _scaling(self) -> tuple[tuple[str, str], ...]:
        size = f"{self.image_size}:{self.image_size}"
        # RGB before scaling, with full chroma: otherwise colours keep only half of the columns.
        scale = f"{size}:flags=area+full_chroma_inp+full_chroma_int"
        return (("format", "rgb24"), ("scale", scale))

    def _filtered(self, frame: av.VideoFrame, *filters: tuple[str, str]) -> av.VideoFrame:
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


def compose(
    rgba: UInt8[np.ndarray, "height width 4"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Composes transparent pixels on white."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return np.rint(rgba[..., :3] * alpha + _GROUND * (1 - alpha)).astype(np.uint8)


def _shown_as_square(width: int, height: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """Returns width and height, in stored pixels, of the largest region shown as a square."""
    side = min(width * pixel_aspect, Fraction(height))  # in units of a pixel's height
    return max(1, round(side / pixel_aspect)), max(1, round(side))


def _has_alpha(frame: av.VideoFrame) -> bool:
    pixels = frame.format
    return pixels.has_palette or any(component.is_alpha for component in pixels.components)


def _upright(
    image: UInt8[np.ndarray, "size size 3"], frame: av.VideoFrame
) -> UInt8[np.ndarray, "size size 3"]:
    """Turns and mirrors an image as the display matrix of its frame says.

    The matrix maps a stored pixel (x, y) to its place (a x + c y, b x + d y) on the screen.
    """
    side_data: Any = frame.side_data  # PyAV declares a type of its own for it
    if Type.DISPLAYMATRIX not in side_data:
        return image
    matrix = np.frombuffer(side_data[Type.DISPLAYMATRIX], np.int32)
    a, b, _, c, d = matrix[:5].astype(np.int64)  # whose absolute values do not overflow
    if abs(b) + abs(c) > abs(a) + abs(d):  # nearest to a quarter turn
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
