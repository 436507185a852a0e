"""Whether the objects of a generated continuation stay whole, and stay where the real ones are.

For clips of coloured objects over a ground at rest, such as moving_shapes. What belongs to an
object is read off the real clip: pixels that are not a shade of the ground (a shadow is), whose
colours occur in the objects of the given frames.

Dimensions: T frames, H height, W width.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

Clip = UInt8[np.ndarray, "time height width 3"]
Frame = UInt8[np.ndarray, "height width 3"]
Mask = Bool[np.ndarray, "*frames height width"]
Colours = Float[np.ndarray, "colours 3"]

_FROM_GROUND = 45.0  # distance of RGB grey levels from the nearest shade of the ground
_SHADES = (0.5, 1.05)  # a shadow darkens to half, noise brightens a little
_FROM_COLOUR = 40.0  # distance of RGB grey levels from a known colour
_COARSE = 8  # grey levels that count as one colour
_LEAST_AREA = 12  # pixels of objects in a frame, so that shares of it mean something
_LEAST_PIECE = 8  # pixels of a piece that counts as an object of its own
AREAS, WHOLE = (0.7, 1.4), 0.8  # of the true area; the share of the area in as many pieces


class Kept(NamedTuple):
    """What has become of a clip's objects in one frame."""

    area: float  # relative to the real one
    whole: float  # share of the area in the largest pieces, as many as there are real objects
    distance: float  # pixels between the centres of all objects' area, NaN where there is none

    @property
    def is_kept(self) -> bool:
        """Whether the objects have about their area, most of it in one piece each."""
        return AREAS[0] <= self.area <= AREAS[1] and self.whole >= WHOLE


def objects_kept(real: Clip, generated: Clip, given: int, at: int) -> Kept | None:
    """Compares the objects in frame `at` of a generated and of the real clip.

    Args:
        real: the clip.
        generated: its continuation, of the same length.
        given: frames that were given, from which the objects' colours are read.
        at: the frame to compare.

    Returns:
        None where the real clip has no objects that can be told from the ground, in the given
        frames or in this one, or objects that hide each other.
    """
    ground = np.median(real, axis=0)
    in_given = _off_ground(real[:given], ground)
    colours = real[:given][in_given]
    if len(colours) < _LEAST_AREA * given:
        return None
    colours = np.unique(colours // _COARSE * _COARSE + _COARSE // 2, axis=0).astype(float)
    true, found = (
        _off_ground(frame, ground) & _of_colours(frame, colours)
        for frame in (real[at], generated[at])
    )
    pieces = _pieces(true)
    objects = int((pieces >= _LEAST_PIECE).sum())
    if true.sum() < _LEAST_AREA or pieces[:objects].sum() < WHOLE * true.sum():
        return None
    area = int(found.sum())
    whole = float(_pieces(found)[: max(objects, 1)].sum() / max(area, 1))
    distance = float(np.linalg.norm(_centre(found) - _centre(true))) if area else np.nan
    return Kept(area / int(true.sum()), whole, distance)


def _off_ground(frames: np.ndarray, ground: Float[np.ndarray, "height width 3"]) -> Mask:
    """Returns where frames [*, H, W, 3] are no shade of the ground."""
    values = frames.astype(float)
    brightness = np.maximum((ground * ground).sum(-1), 1e-9)
    shade = np.clip((values * ground).sum(-1) / brightness, *_SHADES)
    distance: np.ndarray = np.linalg.norm(values - shade[..., None] * ground, axis=-1)
    return distance > _FROM_GROUND


def _of_colours(frame: Frame, colours: Colours) -> Mask:
    distances = np.linalg.norm(frame[..., None, :].astype(float) - colours, axis=-1)
    near: np.ndarray = distances.min(-1) < _FROM_COLOUR
    return near


def _pieces(mask: Mask) -> np.ndarray:
    """Returns the areas of the connected pieces, the largest first."""
    labelled, count = ndimage.label(mask)
    areas = np.bincount(labelled.reshape(-1), minlength=count + 1)[1:]
    return np.sort(areas)[::-1]


def _centre(mask: Mask) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)
