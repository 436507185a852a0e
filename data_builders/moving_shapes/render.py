"""Renders the labelled clips of moving_shapes from a seed, a split and a number.

Everything is drawn in frame units: x to the right and y down, both from 0 to 1, so that a clip
shows the same scene at every image size.
"""

import colorsys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

Vector = Float[np.ndarray, " time"]
Grid = Float[np.ndarray, "time size size"]
Video = Float[np.ndarray, "time size size 3"]
Colour = Float[np.ndarray, " 3"]
Shape = Callable[[Grid, Grid, float], Grid]  # x, y and radius to signed distances
Rng = np.random.Generator

SPLITS = ("train", "validation", "test")  # the order keys the clips: only append to it
SECOND_OBJECT_PROBABILITY = 0.25
SENSOR_NOISE = 2.0  # standard deviation in grey levels
SHADOW_BLUR = 0.05  # a shadow ends half as far from the shape
_SHADOW_OFFSET, _SHADOW_STRENGTH = 0.025, 0.45


class Path(NamedTuple):
    """The path of an object: its centre and its angle in radians in each frame."""

    x: Vector
    y: Vector
    angle: Vector


def _reflect(position: Vector, radius: float) -> Vector:
    """Reflects a straight line between two edges, at a distance of `radius` from each."""
    span = 1 - 2 * radius
    return radius + span - np.abs((position - radius) % (2 * span) - span)


def _spin(rng: Rng, time: Vector) -> Vector:
    return rng.uniform(0, 2 * np.pi) + rng.uniform(-0.08, 0.08) * time


def bounce(rng: Rng, time: Vector, radius: float) -> Path:
    """Draws a straight line at constant speed, reflected at the edges."""
    speed, direction = rng.uniform(0.02, 0.06), rng.uniform(0, 2 * np.pi)
    start_x, start_y = rng.uniform(radius, 1 - radius, size=2)
    return Path(
        _reflect(start_x + speed * np.cos(direction) * time, radius),
        _reflect(start_y + speed * np.sin(direction) * time, radius),
        _spin(rng, time),
    )


def fall(rng: Rng, time: Vector, radius: float) -> Path:
    """Draws a fall and its bounces: h = H (1 - u^2), u from -1 at one impact to 1 at the next."""
    height = rng.uniform(0.7, 1.0) * (1 - 2 * radius)
    gravity = rng.uniform(0.003, 0.006)
    half_period = np.sqrt(2 * height / gravity)
    u = (time / half_period + rng.uniform(0, 2)) % 2 - 1
    drift = rng.uniform(0.005, 0.02) * rng.choice([-1, 1])
    start_x = rng.uniform(radius, 1 - radius)
    return Path(
        _reflect(start_x + drift * time, radius),
        1 - radius - height * (1 - u**2),
        _spin(rng, time),
    )


def orbit(rng: Rng, time: Vector, radius: float) -> Path:
    """Draws a circle at constant speed around a point."""
    distance = rng.uniform(0.15, 0.28)
    slack = 0.5 - radius - distance
    centre_x, centre_y = 0.5 + rng.uniform(-slack, slack, size=2)
    speed = rng.uniform(0.02, 0.06) * rng.choice([-1, 1])
    phase = rng.uniform(0, 2 * np.pi) + speed / distance * time
    return Path(
        centre_x + distance * np.cos(phase),
        centre_y + distance * np.sin(phase),
        _spin(rng, time),
    )


def swing(rng: Rng, time: Vector, radius: float) -> Path:
    """Draws the swing of a pendulum, whose angle follows a cosine."""
    length = rng.uniform(0.4, 0.6)
    amplitude = rng.uniform(0.7, 1.0) * (0.5 - radius) / length
    frequency = rng.uniform(0.03, 0.06) / (amplitude * length)
    theta = amplitude * np.cos(frequency * time + rng.uniform(0, 2 * np.pi))
    lowest = rng.uniform(0.6, 1 - radius)
    return Path(
        0.5 + length * np.sin(theta),
        lowest - length * (1 - np.cos(theta)),
        rng.uniform(0, 2 * np.pi) - theta,
    )


# Signed distances, in frame units, to shapes that fit in the circle of `radius`; negative inside.


def disk(x: Grid, y: Grid, radius: float) -> Grid:
    """Returns the distances to a filled circle."""
    return np.sqrt(x * x + y * y) - radius


def ring(x: Grid, y: Grid, radius: float) -> Grid:
    """Returns the distances to a circle with a hole."""
    return np.abs(disk(x, y, 0.72 * radius)) - 0.28 * radius


def square(x: Grid, y: Grid, radius: float) -> Grid:
    """Returns the distances to a square with rounded corners."""
    corner = 0.2 * radius
    dx, dy = np.abs(x) - 0.56 * radius, np.abs(y) - 0.56 * radius
    outside = np.sqrt(np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2)
    return outside + np.minimum(np.maximum(dx, dy), 0) - corner


def triangle(x: Grid, y: Grid, radius: float) -> Grid:
    """Returns bounds of the distances to an equilateral triangle; they are exact at its sides."""
    sides = np.maximum(0.866 * np.abs(x) - 0.5 * y, y)
    return sides - 0.5 * radius


class Look(NamedTuple):
    """A shape and the hue around which its colours lie."""

    shape: Shape
    hue: float


MOTIONS = {"bounce": bounce, "fall": fall, "orbit": orbit, "swing": swing}
LOOKS = {
    "red_disk": Look(disk, 0.0),
    "green_square": Look(square, 0.34),
    "blue_triangle": Look(triangle, 0.61),
    "yellow_ring": Look(ring, 0.14),
}
LABELS = (*MOTIONS, *LOOKS)


def render_clip(
    seed: int, split: str, index: int, *, num_frames: int, image_size: int
) -> tuple[UInt8[np.ndarray, "time size size 3"], str]:
    """Returns clip `index` of a split and its label's name, a pure function of the arguments.

    Labels take turns. The label of a motion leaves shape and colour random, that of a look the
    motion; all objects of a clip share what the label determines.
    """
    label = LABELS[index % len(LABELS)]
    scene_rng, sensor_rng = streams(seed, split, index)
    return film(_scene(scene_rng, label, num_frames, image_size), sensor_rng), label


def streams(seed: int, split: str, index: int) -> tuple[Rng, Rng]:
    """Returns the random streams of a clip's scene and of its sensor noise.

    They are separate, so that the scene does not depend on the number of pixels.
    """
    stream = np.random.SeedSequence([seed, SPLITS.index(split), index])
    scene_rng, sensor_rng = (np.random.default_rng(child) for child in stream.spawn(2))
    return scene_rng, sensor_rng


def film(scene: Video, sensor_rng: Rng) -> UInt8[np.ndarray, "time size size 3"]:
    """Returns the grey levels of a scene with values from 0 to 1, with sensor noise."""
    video = scene + SENSOR_NOISE / 255 * sensor_rng.standard_normal(scene.shape, np.float32)
    return np.rint(255 * video.clip(0, 1)).astype(np.uint8)


def _scene(rng: Rng, label: str, num_frames: int, image_size: int) -> Video:
    """Returns the clip without sensor noise, from 0 to 1."""
    video = np.broadcast_to(ground(rng, image_size), (num_frames, image_size, image_size, 3))
    num_objects = 2 if rng.random() < SECOND_OBJECT_PROBABILITY else 1
    motion = MOTIONS[label if label in MOTIONS else rng.choice(list(MOTIONS))]
    for _ in range(num_objects):
        if label in LOOKS:
            shape, hue = LOOKS[label]
            hue += rng.uniform(-0.03, 0.03)
        else:
            shape, hue = LOOKS[rng.choice(list(LOOKS))].shape, rng.random()
        object_colour = colour(hue, rng.uniform(0.7, 0.95), rng.uniform(0.8, 1.0))
        radius = float(rng.uniform(0.12, 0.2))
        path = motion(rng, np.arange(num_frames, dtype=np.float32), radius)
        video = draw(video, shape, path, radius, object_colour)
    return video


def colour(hue: float, saturation: float, value: float) -> Colour:
    """Returns red, green and blue from 0 to 1; the hue is periodic with period 1."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)


def ground(rng: Rng, image_size: int) -> Float[np.ndarray, "size size 3"]:
    """Draws smooth noise of four octaves in three tints, dark or light, from 0 to 1."""
    height = np.zeros((image_size, image_size))
    for octave, cells in enumerate((2, 4, 8, 16)):
        lattice = rng.uniform(-1, 1, size=(cells + 2, cells + 2))
        weights = _smooth_interpolation(image_size, cells, rng.random())
        height += 0.6**octave * weights @ lattice @ weights.T
    height = np.clip(0.5 + 0.45 * height, 0, 1)
    hue, dark = rng.random(), rng.random() < 0.6
    darkest, brightest = (0.08, 0.42) if dark else (0.55, 0.95)
    values = np.linspace(darkest, brightest, 3) + rng.uniform(-0.06, 0.06, 3)
    saturation = (0.3, 0.7) if dark else (0.1, 0.3)
    tints = [
        colour(hue + rng.uniform(-0.12, 0.12), rng.uniform(*saturation), value) for value in values
    ]
    channels = [np.interp(height, (0, 0.5, 1), channel) for channel in np.transpose(tints)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _smooth_interpolation(size: int, cells: int, offset: float) -> np.ndarray:
    """Returns weights [size, cells + 2] that interpolate lattice points at the pixels' centres."""
    position = (np.arange(size) + 0.5) / size * cells + offset
    low = position.astype(int)
    t = position - low
    blend = (t * t * (3 - 2 * t))[:, None]
    points = np.eye(cells + 2)
    return (1 - blend) * points[low] + blend * points[low + 1]


def draw(video: Video, shape: Shape, path: Path, radius: float, colour: Colour) -> Video:
    """Draws an object over a video: a soft shadow first, then the shape, lit from the upper left.

    Edges are antialiased by the signed distance, so that objects move by fractions of a pixel.
    """
    size = video.shape[1]
    centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x, y, angle = (np.asarray(values, np.float32)[:, None, None] for values in path)
    dx, dy = centres[None, None, :] - x, centres[None, :, None] - y
    cos, sin = np.cos(angle), np.sin(angle)

    def distance(dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        return shape(cos * dx + sin * dy, cos * dy - sin * dx, radius)

    shadow = 0.5 - distance(dx - _SHADOW_OFFSET, dy - _SHADOW_OFFSET) / SHADOW_BLUR
    video = video * (1 - _SHADOW_STRENGTH * shadow.clip(0, 1))[..., None]
    depth = -distance(dx, dy)
    light = 0.9 - 0.18 * (dx + dy) / radius
    rim = 0.65 + 0.35 * (depth / (0.25 * radius)).clip(0, 1)
    alpha = (0.5 + depth * size).clip(0, 1)[..., None]
    return video + alpha * ((light * rim)[..., None] * colour - video)
