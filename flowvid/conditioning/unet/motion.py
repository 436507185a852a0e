"""How far things have moved between two frames, to a fraction of a pixel, without parameters.

Block matching finds whole pixels. Then the frames' gradients find the rest, by the method of Lucas
and Kanade (1981). Windows count pixels by a mask of what moves, so that neither the ground around a
small object nor its own edge decides. Every step is a gather or a product with a constant matrix,
which takes milliseconds.

Dimensions: B batch, H height, W width, C channels.
"""

import itertools

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from flowvid.arrays import Images

Maps = Float[Array, "batch height width channels"]
Mask = Float[Array, "batch height width one"]
Displacements = Float[Array, "batch height width two"]  # rows and columns, in pixels

_FARTHEST = 2  # coarse pixels, in each direction
_WINDOW = 3  # reach of windows: 7 coarse pixels are about as large as an object
_STEPS = 3  # of refinement
_GROUP = 2  # reach of windows over which motion is averaged
_LARGEST_ERROR = 0.5  # of a pixel, summed over channels: a single pixel must not decide
_COST_OF_DISTANCE = 2e-4  # per squared pixel, so that what may be at rest is
_LARGEST_STEP = 0.7  # pixels of a step of refinement
_OUTLIER = 0.3  # an error, summed over channels, at which a pixel counts half
_LEAST_WEIGHT = 1e-4  # of a pixel, so that windows without any mask are averages, too
_LEAST_TEXTURE = 2e-4  # added to squared gradients: where there is no texture, nothing moves


def motion(frame: Images, before: Images, mask: Mask, factor: int) -> Displacements:
    """Returns how far what each pixel of a frame shows has moved since the frame before.

    Args:
        frame: frames [B, H, W, 3] in [-1/2, 1/2).
        before: the frames before them.
        mask: how much each pixel of `frame` belongs to what moves, from 0 to 1.
        factor: side of a coarse pixel, the `coarseness` of whole frames (`settings`), also where
            these are windows of them.
    """
    small, small_before, small_mask = (reduced(x, factor) for x in (frame, before, mask))
    matched = factor * enlarged(_matched(small, small_before, small_mask), factor, frame.shape)
    first = masked_mean(matched, mask, _GROUP * factor)

    def refined(_: Array, found: Displacements) -> Displacements:
        # Warping by a ragged field would show edges that are not there.
        step = _refinement(frame, before, mask, found, _WINDOW * factor)
        return masked_mean(found + step, mask, _GROUP * factor)

    found: Displacements = lax.fori_loop(0, _STEPS, refined, first)
    return found


def masked_mean(x: Maps, mask: Mask, reach: int) -> Array:
    """Returns the mean of x [B, H, W, C] over the mask in the windows around each pixel."""
    weight = mask + _LEAST_WEIGHT
    return window_sum(x * weight, reach) / window_sum(weight, reach)


def window_sum(x: Maps, reach: int) -> Array:
    """Returns sums over windows of 2 `reach` + 1 pixels a side; outside of the frame is nothing.

    Products with banded matrices: on all devices they are faster than sums along an axis.
    """
    rows, columns = (_band(size, reach).astype(x.dtype) for size in x.shape[1:3])
    over_rows = jnp.einsum("hk,bkwc->bhwc", rows, x)
    return jnp.einsum("wk,bhkc->bhwc", columns, over_rows)


def _band(size: int, reach: int) -> np.ndarray:
    index = np.arange(size)
    band: np.ndarray = abs(index[:, None] - index) <= reach
    return band


def sampled_at(x: Maps, positions: Float[Array, "batch rows columns two"]) -> Array:
    """Returns x [B, H, W, C] at positions [B, H', W', 2], linear between pixels; edges repeat."""
    batch, height, width, channels = x.shape
    rows, columns = (
        jnp.clip(positions[..., axis], 0, size - 1) for axis, size in enumerate((height, width))
    )
    row, column = (
        jnp.minimum(jnp.floor(p), size - 2) for p, size in ((rows, height), (columns, width))
    )
    lower, right = (rows - row)[..., None], (columns - column)[..., None]
    first = (row * width + column).astype(jnp.int32)
    first += height * width * jnp.arange(batch)[:, None, None]
    flat = x.reshape(-1, channels)
    above = (1 - right) * flat[first] + right * flat[first + 1]
    below = (1 - right) * flat[first + width] + right * flat[first + width + 1]
    return (1 - lower) * above + lower * below


def positions(height: int, width: int) -> Float[Array, "one height width two"]:
    """Returns row and column of each pixel, for a batch of any size."""
    grid = jnp.meshgrid(jnp.arange(float(height)), jnp.arange(float(width)), indexing="ij")
    return jnp.stack(grid, axis=-1)[None]


def reduced(x: Maps, factor: int) -> Array:
    """Returns means over squares of `factor` pixels a side; what is left at an edge is cut off."""
    height, width = (size // factor for size in x.shape[1:3])
    cut = x[:, : height * factor, : width * factor]
    return cut.reshape(len(x), height, factor, width, factor, x.shape[-1]).mean(axis=(2, 4))


def enlarged(x: Maps, factor: int, shape: tuple[int, ...]) -> Array:
    """Repeats each pixel, and the edges as far as `reduced` has cut them off."""
    repeated = jnp.repeat(jnp.repeat(x, factor, axis=1), factor, axis=2)
    missing = [(0, size - of) for size, of in zip(shape[1:3], repeated.shape[1:3], strict=True)]
    return jnp.pad(repeated, ((0, 0), *missing, (0, 0)), mode="edge")


def _matched(frame: Images, before: Images, mask: Mask) -> Displacements:
    """Returns the displacement by whole pixels with the smallest error in the window."""
    batch, height, width, _ = frame.shape
    reach = range(-_FARTHEST, _FARTHEST + 1)
    edges = (_FARTHEST, _FARTHEST)
    padded = jnp.pad(before, ((0, 0), edges, edges, (0, 0)), mode="edge")
    weight = mask + _LEAST_WEIGHT
    total = window_sum(weight, _WINDOW)

    def errors_of_row(_: None, row: Array) -> tuple[None, Array]:
        size = (batch, height, padded.shape[2], padded.shape[3])
        moved = lax.dynamic_slice(padded, (0, _FARTHEST - row, 0, 0), size)
        starts = [_FARTHEST - column for column in reach]
        shifted = [moved[:, :, start : start + width] for start in starts]
        errors = [jnp.sum(jnp.abs(frame - x), axis=-1, keepdims=True) for x in shifted]
        capped = jnp.minimum(jnp.concatenate(errors, axis=-1), _LARGEST_ERROR)
        return None, window_sum(capped * weight, _WINDOW) / total

    _, errors = lax.scan(errors_of_row, None, jnp.array(reach))
    errors = jnp.moveaxis(errors, 0, -2).reshape(batch, height, width, -1)
    displacements = jnp.array(list(itertools.product(reach, reach)), frame.dtype)
    costs = _COST_OF_DISTANCE * jnp.sum(displacements**2, axis=-1)[None, None, None]
    return displacements[jnp.argmin(errors + costs, axis=-1)]


def _refinement(
    frame: Images, before: Images, mask: Mask, displacement: Displacements, reach: int
) -> Displacements:
    """Returns a step of Lucas and Kanade: a 2x2 least-squares problem in each window."""
    moved = sampled_at(before, positions(*frame.shape[1:3]) - displacement)
    rows, columns = ((a + b) / 2 for a, b in zip(_gradients(frame), _gradients(moved), strict=True))
    error = frame - moved
    weight = mask + _LEAST_WEIGHT
    robust = weight / (1 + (jnp.sum(jnp.abs(error), axis=-1, keepdims=True) / _OUTLIER) ** 2)
    products = (rows * rows, rows * columns, columns * columns, rows * error, columns * error)
    in_one = jnp.concatenate([jnp.sum(p, axis=-1, keepdims=True) for p in products], axis=-1)
    sums = window_sum(robust * in_one, reach) / window_sum(weight, reach)
    rr, rc, cc, re, ce = jnp.split(sums, 5, axis=-1)
    rr, cc = rr + _LEAST_TEXTURE, cc + _LEAST_TEXTURE
    step = -jnp.concatenate([cc * re - rc * ce, rr * ce - rc * re], axis=-1) / (rr * cc - rc**2)
    return jnp.clip(step, -_LARGEST_STEP, _LARGEST_STEP)


def _gradients(x: Images) -> tuple[Array, Array]:
    """Returns central differences along rows and columns; edges repeat."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    return rows, (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
