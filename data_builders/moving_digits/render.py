"""Renders the clips of moving_digits: a seed, a split, a number and digits in, a video out.

Ground, light, shadow, ways and sensor noise are those of moving_shapes; a digit's image becomes a
shape as there: signed distances, in frame units, so that a clip shows the same scene at every size.
"""

import colorsys
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from data_builders.moving_shapes import render as shapes

LABELS = tuple("0123456789")

_MOTIONS = (shapes.bounce, shapes.fall)
_FINENESS = 4  # distances to a digit's outline are measured on so many points a pixel of its image
_MARGIN = 4  # pixels round a digit's image, for its shadow
_HALF_HEIGHT = 10  # MNIST scales digits to fit a box of 20x20 pixels


class Glyph(NamedTuple):
    """A digit's signed distances on a fine grid, negative in the ink, and where its ink is."""

    distances: Float[np.ndarray, "height width"]  # in pixels of the grid, as all lengths here
    row: float  # the middle of the ink
    column: float
    reach: float  # of the ink from its middle

    def shape(self, x: shapes.Grid, y: shapes.Grid, radius: float) -> shapes.Grid:
        """Signed distances to the digit scaled to fit the circle of `radius`, in frame units."""
        distance = shapes.disk(x, y, radius)  # a bound, good enough where no shadow falls
        near = distance < shapes.SHADOW_BLUR
        scale = self.reach / radius
        points = np.stack([self.row + scale * y[near], self.column + scale * x[near]])
        distance[near] = ndimage.map_coordinates(self.distances, points, order=1, mode="nearest")
        distance[near] /= scale
        return distance


def glyph(image: UInt8[np.ndarray, "28 28"]) -> Glyph:
    """Measures a digit, bright ink on black; a little wide, since thin strokes must be seen."""
    padded = np.pad(image, _MARGIN).astype(np.float32)
    ink = ndimage.zoom(padded, _FINENESS, order=1, mode="nearest", grid_mode=True) > 110
    inside, outside = (ndimage.distance_transform_edt(part) for part in (ink, ~ink))
    distances = np.where(ink, 0.5 - inside, outside - 0.5).astype(np.float32)
    rows, columns = np.nonzero(ink)
    row, column = (float(p.min() + p.max()) / 2 for p in (rows, columns))
    return Glyph(distances, row, column, float(np.hypot(rows - row, columns - column).max()))


def render_clip(
    seed: int,
    split: str,
    index: int,
    digits: UInt8[np.ndarray, "10 image 28 28"],
    *,
    num_frames: int,
    image_size: int,
) -> tuple[UInt8[np.ndarray, "time size size 3"], str]:
    """Clip `index` of a split, a pure function of its arguments: (video, label name).

    Labels take turns; `digits` are the images of the split, by digit.
    """
    digit = index % len(LABELS)
    scene_rng, sensor_rng = shapes.streams(seed, split, index)
    scene = _scene(scene_rng, digits[digit], num_frames, image_size)
    return shapes.film(scene, sensor_rng), LABELS[digit]


def _scene(
    rng: shapes.Rng, images: UInt8[np.ndarray, "image 28 28"], num_frames: int, image_size: int
) -> shapes.Video:
    """The clip without sensor noise, from 0 to 1: one or two of the images on their way."""
    ground = shapes.ground(rng, image_size)
    video = np.broadcast_to(ground, (num_frames, *ground.shape))
    num_objects = 2 if rng.random() < shapes.SECOND_OBJECT_PROBABILITY else 1
    colours = _colours(rng, ground.mean(axis=(0, 1)))
    time = np.arange(num_frames, dtype=np.float32)
    start = None
    for colour in colours[:num_objects]:
        drawn = glyph(images[rng.integers(len(images))])
        half_height = rng.uniform(0.18, 0.25)
        radius = float(half_height * drawn.reach / (_FINENESS * _HALF_HEIGHT))
        path = _path(rng, time, radius, start)
        start = path.x[0], path.y[0]
        video = shapes.draw(video, drawn.shape, path, radius, colour)
    return video


def _path(
    rng: shapes.Rng, time: shapes.Vector, radius: float, away_from: tuple[float, float] | None
) -> shapes.Path:
    """A way that starts away from another digit, or both would be hard to read."""
    motion = _MOTIONS[rng.integers(len(_MOTIONS))]
    path = motion(rng, time, radius)
    if away_from is not None:
        ways = [path, *(motion(rng, time, radius) for _ in range(7))]
        path = max(ways, key=lambda way: math.dist((way.x[0], way.y[0]), away_from))
    return path._replace(angle=_sway(rng, time))


def _sway(rng: shapes.Rng, time: shapes.Vector) -> shapes.Vector:
    """Angles that stay small, so that a 6 does not become a 9."""
    return rng.uniform(0, 0.3) * np.cos(rng.uniform(0.05, 0.2) * time + rng.uniform(0, 2 * np.pi))


def _colours(rng: shapes.Rng, ground: shapes.Colour) -> list[shapes.Colour]:
    """Two colours to be told from the ground's and from each other: by hue and by brightness."""
    hue, _, _ = colorsys.rgb_to_hsv(*ground)
    is_dark = ground.mean() < 0.45  # grounds have a mean below 0.35 or above 0.5
    saturation, value = ((0.2, 0.6), (0.95, 1.0)) if is_dark else ((0.6, 0.95), (0.2, 0.4))
    return [
        shapes.colour(
            hue + third + rng.uniform(-0.1, 0.1), rng.uniform(*saturation), rng.uniform(*value)
        )
        for third in rng.permutation((1 / 3, 2 / 3))
    ]
