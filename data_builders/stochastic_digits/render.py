"""Renders the clips of stochastic_digits from a seed, a split, a number and images of digits.

The rules are those of stochastic Moving MNIST in SVG (Denton and Fergus, 2018). A clip is composed
on 64x64 pixels, on which digits move by whole pixels, and averaged over areas for other sizes.
"""

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from data_builders.moving_shapes.render import Rng, streams

FRAME_SIZE, DIGIT_SIZE = 64, 32
# The largest row and column of a digit's corner. As in SVG, one row and one column stay unused.
FURTHEST = FRAME_SIZE - DIGIT_SIZE - 1
MAX_SPEED = 4  # pixels per frame along each axis

Path = Int[np.ndarray, "time 2"]


def render_clip(
    seed: int,
    split: str,
    index: int,
    digits: UInt8[np.ndarray, "10 image 28 28"],
    *,
    num_frames: int,
    image_size: int,
    num_digits: int = 2,
) -> UInt8[np.ndarray, "time size size 3"]:
    """Returns clip `index` of a split, a pure function of the arguments.

    A shorter clip is the beginning of a longer one, and a clip of one digit shows the first digit
    of the clip with two.

    Args:
      seed: the seed of the dataset.
      split: one of `moving_shapes.render.SPLITS`.
      index: the number of the clip in its split.
      digits: the images of the split, by digit.
      num_frames: frames of the clip.
      image_size: height and width, in pixels.
      num_digits: the number of digits that move.
    """
    scene_rng, _ = streams(seed, split, index)
    images = digits.reshape(-1, *digits.shape[2:])
    ink = np.zeros((num_frames, FRAME_SIZE, FRAME_SIZE), np.int64)
    for rng in scene_rng.spawn(num_digits):
        image = _resized(images[rng.integers(len(images))], DIGIT_SIZE)
        for frame, (row, column) in zip(ink, path(rng, num_frames), strict=True):
            frame[row : row + DIGIT_SIZE, column : column + DIGIT_SIZE] += image
    clip = [_resized(frame, image_size) for frame in ink.clip(max=255).astype(np.uint8)]
    return np.repeat(np.stack(clip)[..., None], 3, axis=-1)


def path(rng: Rng, num_frames: int) -> Path:
    """Draws where a digit starts and how it moves; returns the row and column of its corner."""
    position = rng.integers(FURTHEST, size=2, endpoint=True)
    return walk(rng, position, _velocity(rng), num_frames)


def walk(
    rng: Rng, position: Int[np.ndarray, " 2"], velocity: Int[np.ndarray, " 2"], num_frames: int
) -> Path:
    """Moves a digit at constant velocity, of which each bounce draws a new one.

    A digit that has crossed an edge is put back to it. Its new velocity leads away from the edge,
    and along the edge it has any direction. In a corner, the bounce off the left or right edge
    comes second, and its velocity may lead across the other edge, where the digit bounces next.

    Args:
      rng: what bounces draw from.
      position: row and column of the digit's corner in the first frame.
      velocity: their change per frame until the first bounce.
      num_frames: frames of the clip.
    """
    places = []
    for _ in range(num_frames):
        for axis, place in enumerate(position):
            inside = min(max(place, 0), FURTHEST)
            if inside != place:
                velocity = _velocity(rng)
                velocity[axis] = np.sign(inside - place) * rng.integers(1, MAX_SPEED, endpoint=True)
        position = position.clip(0, FURTHEST)
        places.append(position)
        position = position + velocity
    return np.stack(places)


def _velocity(rng: Rng) -> Int[np.ndarray, " 2"]:
    return rng.integers(-MAX_SPEED, MAX_SPEED, size=2, endpoint=True)


def _resized(
    image: UInt8[np.ndarray, "height height"], size: int
) -> UInt8[np.ndarray, "size size"]:
    """Returns an image enlarged by bilinear interpolation or reduced by averaging over areas."""
    how = Image.Resampling.BOX if size < len(image) else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize((size, size), how))
