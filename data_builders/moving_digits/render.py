"""Renders the clips of moving_digits from a seed, a split, a number and images of digits.

Background, light, shadow, motion and sensor noise are those of moving_shapes. An image of a digit
becomes a shape like those there: signed distances in frame units, so that a clip shows the same
scene at every size.
"""

import colorsys
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from data_builders.moving_shapes import render as shapes

LABELS = tuple("0123456789")

_MOTIONS = (shapes.bounce, shapes.fall)
_FINENESS = 4  # grid points per pixel of the image at which distances to the outline are measured
_MARGIN = 4  # pixels around a digit's image, for its shadow
_HALF_HEIGHT = 10  # MNIST scales digits to fit a box of 20x20 pixels


class Glyph(NamedTuple):
    """A digit's signed distances on a fine grid, negative in the ink, and the place of its ink.

    Attributes:
      distances: in pixels of the grid, as all lengths here.
      row, column: the middle of the ink.
      reach: the largest distance of ink from its middle.
    """

    distances: Float[np.ndarray, "height width"]
    row: float
    column: float
    reach: float

    def shape(self, x: shapes.Grid, y: shapes.Grid, radius: float) -> shapes.Grid:
        """Returns signed distances to the digit, scaled to fit `radius`, in frame units."""
        distance = shapes.disk(x, y, radius)  # a bound suffices where no shadow falls
        near = distance < shapes.SHADOW_BLUR
        scale = self.reach / radius
        points = np.stack([self.row + scale * y[near], self.column + scale * x[near]])
        distance[near] = ndimage.map_coordinates(self.distances, points, order=1, mode="nearest")
        distance[near] /= scale
        return distance


def glyph(image: UInt8[np.ndarray, "28 28"]) -> Glyph:
    """Returns the glyph of a digit, bright ink on black, with slightly widened strokes."""
    padded = np.pad(image, _MARGIN).astype(np.float32)
    ink = ndimage.zoom(padded, _FINENESS, order=1, mode="nearest", grid_mode=True) > 110
    inside, outside = (ndimage.distance_transform_edt(part) for part in (ink, ~ink))
    distances = np.where(ink, 0.5 - inside, outside - 0.5).astype(np.float32)
    rows, columns = np.nonzero(ink)
    row, column = (float(p.min() + p.max()) / 2 for p in (rows, columns))
    return Glyph(distances, row, column, float(np.hypot(rows - row, columns - column).max()))


_DOT = Glyph(np.zeros((1, 1), np.float32), 0.0, 0.0, 1.0)


def render_clip(
    seed: int,
    split: str,
    index: int,
    digits: UInt8[np.ndarray, "10 image 28 28"],
    *,
    num_frames: int,
    image_size: int,
) -> tuple[UInt8[np.ndarray, "time size size 3"], str]:
    """Returns clip `index` of a split and its label's name, a pure function of the arguments.

    Args:
      seed: the seed of the dataset.
      split: one of `moving_shapes.render.SPLITS`.
      index: the number of the clip in its split; labels take turns.
      digits: the images of the split, by digit.
      num_frames: frames of the clip.
      image_size: height and width, in pixels.
    """
    digit = index % len(LABELS)
    scene_rng, sensor_rng = shapes.streams(seed, split, index)
    scene = _scene(scene_rng, digits[digit], num_frames, image_size)
    return shapes.film(scene, sensor_rng), LABELS[digit]


def images_shown(
    seed: int, split: str, num_clips: int, num_images: int
) -> Bool[np.ndarray, "10 image"]:
    """Returns which of a split's `num_images` images of each digit its first clips show."""
    shown = np.zeros((len(LABELS), num_images), bool)
    time = np.zeros(1, np.float32)
    for index in range(num_clips):
        rng, _ = shapes.streams(seed, split, index)
        ground = shapes.ground(rng, image_size=1)
        # What the generator draws does not depend on the image, so any glyph will do.
        for item in _objects(rng, ground, num_images, lambda _: _DOT, time):
            shown[index % len(LABELS), item.image] = True
    return shown


class _Object(NamedTuple):
    """A digit of a clip: the number of its image, its glyph, radius, path and colour."""

    image: int
    glyph: Glyph
    radius: float
    path: shapes.Path
    colour: shapes.Colour


def _scene(
    rng: shapes.Rng, images: UInt8[np.ndarray, "image 28 28"], num_frames: int, image_size: int
) -> shapes.Video:
    """Returns the clip without sensor noise, from 0 to 1: one or two of the images in motion."""
    ground = shapes.ground(rng, image_size)
    video = np.broadcast_to(ground, (num_frames, *ground.shape))
    time = np.arange(num_frames, dtype=np.float32)
    for item in _objects(rng, ground, len(images), lambda number: glyph(images[number]), time):
        video = shapes.draw(video, item.glyph.shape, item.path, item.radius, item.colour)
    return video


def _objects(
    rng: shapes.Rng,
    ground: Float[np.ndarray, "size size 3"],
    num_images: int,
    glyph_of: Callable[[int], Glyph],
    time: shapes.Vector,
) -> Iterator[_Object]:
    """Draws the one or two digits of a clip; `glyph_of` measures the image of a given number."""
    num_objects = 2 if rng.random() < shapes.SECOND_OBJECT_PROBABILITY else 1
    colours = _colours(rng, ground.mean(axis=(0, 1)))
    start = None
    for colour in colours[:num_objects]:
        image = int(rng.integers(num_images))
        drawn = glyph_of(image)
        half_height = rng.uniform(0.18, 0.25)
        radius = float(half_height * drawn.reach / (_FINENESS * _HALF_HEIGHT))
        path = _path(rng, time, radius, start)
        start = path.x[0], path.y[0]
        yield _Object(image, drawn, radius, path, colour)


def _path(
    rng: shapes.Rng, time: shapes.Vector, radius: float, away_from: tuple[float, float] | None
) -> shapes.Path:
    """Draws a path that starts away from another digit, since overlapping ones are unreadable."""
    motion = _MOTIONS[rng.integers(len(_MOTIONS))]
    path = motion(rng, time, radius)
    if away_from is not None:
        paths = [path, *(motion(rng, time, radius) for _ in range(7))]
        path = max(paths, key=lambda p: math.dist((p.x[0], p.y[0]), away_from))
    return path._replace(angle=_sway(rng, time))


def _sway(rng: shapes.Rng, time: shapes.Vector) -> shapes.Vector:
    """Draws angles that stay small, so that a 6 does not become a 9."""
    return rng.uniform(0, 0.3) * np.cos(rng.uniform(0.05, 0.2) * time + rng.uniform(0, 2 * np.pi))


def _colours(rng: shapes.Rng, ground: shapes.Colour) -> list[shapes.Colour]:
    """Draws two colours that differ from the ground's and from each other."""
    hue, _, _ = colorsys.rgb_to_hsv(*ground)
    is_dark = ground.mean() < 0.45  # grounds have a mean below 0.35 or above 0.5
    saturation, value = ((0.2, 0.6), (0.95, 1.0)) if is_dark else ((0.6, 0.95), (0.2, 0.4))
    return [
        shapes.colour(
            hue + third + rng.uniform(-0.1, 0.1), rng.uniform(*saturation), rng.uniform(*value)
        )
        for third in rng.permutation((1 / 3, 2 / 3))
    ]
