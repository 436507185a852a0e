"""Motion by block matching: what the next frame looks like if things move on as they did.

Dimensions: B batch, H height, W width.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from flowvid.arrays import Images

Displacements = Float[Array, "batch height width two"]

FARTHEST = 3  # pixels that things move in a frame, in each direction
_PER_PIXEL = 2  # displacements that are tried per pixel: half pixels keep edges sharper
_WINDOW = 9  # side of the window in which frames are compared: about the size of a small object
_LARGEST_ERROR = 0.375  # of a pixel, summed over channels: a single pixel must not decide
_SHARPNESS = 800.0  # of the weights: a factor of e for an error of 1/800 per pixel
_COST_OF_DISTANCE = 1e-4  # per squared pixel, so that what may be at rest is
_IN_FRONT = 3.0  # added to the log-weights of what moves: it hides what is at rest


class _Sums(NamedTuple):
    """Weighted sums over displacements, relative to the largest log-weight so far."""

    largest: Array
    weight: Array
    weighted: Array


def moved_on(last: Images, before: Images) -> tuple[Images, Displacements]:
    """Returns the next frame if all moves on, and where from each of its pixels comes, in pixels.

    For each displacement, the last frame is compared with the one before it, moved by it, in a
    window around each pixel. That gives each pixel weights of the displacements it may move on by.
    A pixel of the result is the mean of all that come to it.

    Args:
        last: frames [B, H, W, 3] in [-1/2, 1/2).
        before: the frames before them.
    """
    reach = range(-FARTHEST * _PER_PIXEL, FARTHEST * _PER_PIXEL + 1)
    displacements = jnp.array(list(itertools.product(reach, reach)), last.dtype) / _PER_PIXEL
    ones = jnp.ones_like(last[..., :1])
    inside = _window_sum(ones)

    def compare(_: None, displacement: Array) -> tuple[None, Array]:
        error = jnp.sum(jnp.abs(last - _moved(before, displacement)), axis=-1, keepdims=True)
        error = _window_sum(jnp.minimum(error, _LARGEST_ERROR)) / inside
        return None, -_SHARPNESS * (error + _COST_OF_DISTANCE * jnp.sum(displacement**2))

    _, scores = lax.scan(compare, None, displacements)
    log_weights = scores - jax.nn.logsumexp(scores, axis=0, keepdims=True)

    def add(sums: _Sums, moved_by: tuple[Array, Array]) -> tuple[_Sums, None]:
        displacement, log_weight = moved_by
        at_rest = jnp.sum(jnp.abs(displacement)) < 1 / _PER_PIXEL
        log_weight = _moved(log_weight, displacement) + jnp.where(at_rest, 0.0, _IN_FRONT)
        by = jnp.broadcast_to(displacement, (*last.shape[:3], 2))
        values = jnp.concatenate([_moved(last, displacement), by], axis=-1)
        largest = jnp.maximum(sums.largest, log_weight)
        rescale, weight = jnp.exp(sums.largest - largest), jnp.exp(log_weight - largest)
        total = sums.weight * rescale + weight
        return _Sums(largest, total, sums.weighted * rescale + weight * values), None

    zeros = jnp.zeros_like(ones)
    nothing = jnp.zeros_like(jnp.concatenate([last, ones, ones], axis=-1))
    start = _Sums(jnp.full_like(ones, -jnp.inf), zeros, nothing)
    sums, _ = lax.scan(add, start, (displacements, log_weights))
    found = sums.weighted / sums.weight
    return found[..., :3], found[..., 3:]


def _moved(x: Images, displacement: Array) -> Images:
    """Returns x moved by (rows, columns) of at most `FARTHEST`, with linear interpolation.

    The edges are repeated.
    """
    whole = jnp.floor(displacement)
    rows, columns = displacement - whole
    start_row, start_column = FARTHEST + 1 - whole.astype(jnp.int32)
    edges = (FARTHEST + 1, FARTHEST + 1)
    padded = jnp.pad(x, ((0, 0), edges, edges, (0, 0)), mode="edge")

    def at(row: int, column: int) -> Array:
        return lax.dynamic_slice(padded, (0, start_row - row, start_column - column, 0), x.shape)

    upper = (1 - columns) * at(0, 0) + columns * at(0, 1)
    lower = (1 - columns) * at(1, 0) + columns * at(1, 1)
    return (1 - rows) * upper + rows * lower


def _window_sum(x: Images) -> Array:
    """Returns the sum over the window around each pixel; outside of the frame there are zeros."""
    reach = _WINDOW // 2
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (reach, reach)
        padded, size = jnp.pad(x, pad), x.shape[axis]
        slices = [lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(_WINDOW)]
        x = sum(slices[1:], slices[0])
    return x
