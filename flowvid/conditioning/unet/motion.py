"""How far things have moved between two frames, to a fraction of a pixel, without parameters.

Block matching finds whole coarse pixels. Then the frames' gradients find the rest, by the method of
Lucas and Kanade (1981), from coarse frames to the frames themselves. Windows count pixels by a mask
of what moves, so that neither the ground around a small object nor its own edge decides. Every step
is a gather or a product with a constant matrix, which takes milliseconds.

Inside, images are planes [H, C, B, W]: along each axis, products with a matrix need no transposed
copies, and XLA vectorises over the last axis.

Dimensions: B batch, H height and W width in pixels, h and w in coarse ones, C channels.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from flowvid.arrays import CHANNELS, Images

Maps = Float[Array, "batch height width channels"]
Mask = Float[Array, "batch height width one"]
Planes = Float[Array, "height channels batch width"]
Plane = Float[Array, "height one batch width"]
Displacements = Float[Array, "batch height width two"]  # rows and columns, in pixels
CoarseDisplacements = Float[Array, "batch coarse_height coarse_width two"]  # the same

_FARTHEST = 2  # coarse pixels, in each direction
_WINDOW = 3  # reach of windows: 7 coarse pixels are about as large as an object
_COARSE_STEPS = 2  # of refinement between coarse frames, before one at each finer scale
_GROUP = 2  # reach of windows over which motion is averaged
_LARGEST_ERROR = 0.5  # of a pixel, summed over channels: a single pixel must not decide
_COST_OF_DISTANCE = 2e-4  # per squared pixel, so that what may be at rest is
_LARGEST_STEP = 0.7  # pixels, coarse ones where frames are coarse, of a step of refinement
_OUTLIER = 0.3  # an error, summed over channels, at which a pixel counts half
_LEAST_WEIGHT = 1e-4  # of a pixel, so that windows without any mask are averages, too
_LEAST_TEXTURE = 2e-4  # added to squared gradients: where there is no texture, nothing moves


@jax.named_scope("motion")
def motion(frame: Images, before: Images, mask: Mask, factor: int) -> CoarseDisplacements:
    """Returns how far what each coarse pixel shows has moved since the frame before, in pixels.

    Args:
        frame: frames [B, H, W, 3] in [-1/2, 1/2).
        before: the frames before them.
        mask: how much each pixel of `frame` belongs to what moves, from 0 to 1.
        factor: side of a coarse pixel, the `coarseness` of whole frames (`settings`), also where
            these are windows of them.
    """
    images = (frame, before, mask)
    coarse = [reduced(x, factor) for x in images]
    weight = _planes(coarse[-1]) + _LEAST_WEIGHT
    group = _sum_near(weight, _GROUP)

    def mean(x: Array) -> Array:
        return _sum_near(x * weight, _GROUP) / group

    # Warping by a ragged field would show edges that are not there, so each result is averaged.
    found = mean(_matched(*(_planes(x) for x in coarse)))
    coarse_step = _refinement(coarse, 1)
    found = lax.fori_loop(0, _COARSE_STEPS, lambda _, x: mean(x + coarse_step(x)), found)
    for scale in _finer(factor):
        step = _refinement([reduced(x, scale) for x in images], factor // scale)
        found = mean(found + step(found))
    return factor * _maps(found)


def _finer(factor: int) -> Iterator[int]:
    """Yields the scales from half of the coarse one down to 1, or 1 alone if it is odd."""
    scale = factor
    while True:
        scale = 1 if scale % 2 else scale // 2
        yield scale
        if scale == 1:
            return


def _refinement(images: Sequence[Array], factor: int) -> Callable[[Planes], Array]:
    """Returns the function from motion to what a step of refinement adds to it.

    Motion is in coarse pixels, and has one value for each of them: a square of `factor` pixels.

    Args:
        images: a frame, the one before, and the mask.
        factor: of these images.
    """
    frame, before, mask = images
    shown, at = _planes(frame), _planes(positions(*frame.shape[1:3]))
    weight = _planes(mask) + _LEAST_WEIGHT
    gradients, neighbours = _gradients(shown), _with_neighbours(before)
    near = _sum_near(weight, _WINDOW, factor)

    def step(found: Planes) -> Array:
        moves = factor * _planes(enlarged(_maps(found), factor, frame.shape))
        products = _products(shown, _between(neighbours, at - moves), gradients, weight)
        return _step(_sum_near(products, _WINDOW, factor) / near) / factor

    return step


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


def _band(size: int, reach: int, factor: int = 1) -> np.ndarray:
    """Returns the coarse pixels [size // factor, size] in whose windows each pixel is."""
    coarse, of_pixel = np.arange(size // factor)[:, None], np.arange(size) // factor
    band: np.ndarray = (abs(coarse - of_pixel) <= reach) & (of_pixel < len(coarse))
    return band


def sampled_at(x: Maps, positions: Float[Array, "batch rows columns two"]) -> Array:
    """Returns x [B, H, W, C] at positions [B, H', W', 2], linear between pixels; edges repeat."""
    return _maps(_between(_with_neighbours(x), _planes(positions)))


def positions(height: int, width: int) -> Float[Array, "one height width two"]:
    """Returns row and column of each pixel, for a batch of any size."""
    grid = jnp.meshgrid(jnp.arange(float(height)), jnp.arange(float(width)), indexing="ij")
    return jnp.stack(grid, axis=-1)[None]


def reduced(x: Maps, factor: int) -> Array:
    """Returns means over squares of `factor` pixels a side; what is left at an edge is cut off."""
    height, width = (size // factor for size in x.shape[1:3])
    cut = x[:, : height * factor, : width * factor]
    return cut.reshape(len(x), height, factor, width, factor, x.shape[-1]).mean(axis=(2, 4))


def reduced_mean(x: Maps, mask: Mask, factor: int) -> tuple[Array, Array]:
    """Returns means over the mask in such squares, and the mask's own means."""
    weight = mask + _LEAST_WEIGHT
    return reduced(x * weight, factor) / reduced(weight, factor), reduced(mask, factor)


def enlarged(x: Maps, factor: int, shape: tuple[int, ...]) -> Array:
    """Repeats each pixel, and the edges as far as `reduced` has cut them off."""
    repeated = jnp.repeat(jnp.repeat(x, factor, axis=1), factor, axis=2)
    missing = [(0, size - of) for size, of in zip(shape[1:3], repeated.shape[1:3], strict=True)]
    return jnp.pad(repeated, ((0, 0), *missing, (0, 0)), mode="edge")


def _planes(x: Float[Array, "batch height width channels"]) -> Planes:
    return jnp.transpose(x, (1, 3, 0, 2))


def _maps(x: Planes) -> Maps:
    return jnp.transpose(x, (2, 0, 3, 1))


def _over_rows(matrix: np.ndarray, x: Planes) -> Array:
    product = jnp.asarray(matrix, x.dtype) @ x.reshape(x.shape[0], -1)
    return product.reshape(-1, *x.shape[1:])


def _over_columns(matrix: np.ndarray, x: Planes) -> Array:
    product = x.reshape(-1, x.shape[-1]) @ jnp.asarray(matrix.T, x.dtype)
    return product.reshape(*x.shape[:-1], -1)


def _sum_near(x: Planes, reach: int, factor: int = 1) -> Array:
    """Returns the same as `window_sum`, of windows of coarse pixels around each of these."""
    over_rows = _over_rows(_band(x.shape[0], reach, factor), x)
    return _over_columns(_band(x.shape[-1], reach, factor), over_rows)


def _over_channels(x: Planes) -> Plane:
    # XLA does not vectorise a sum over an axis.
    first, *others = jnp.split(x, CHANNELS, axis=1)
    return sum(others, first)


def _matched(frame: Planes, before: Planes, mask: Plane) -> Array:
    """Returns the displacement by whole pixels with the smallest error in the window."""
    height, *_, width = frame.shape
    reach = range(-_FARTHEST, _FARTHEST + 1)
    edges, none = (_FARTHEST, _FARTHEST), (0, 0)
    padded = jnp.pad(before, (edges, none, none, edges), mode="edge")
    weight = mask + _LEAST_WEIGHT
    total = _sum_near(weight, _WINDOW)

    def best_of_row(best: Any, row: Array) -> tuple[Any, None]:
        moved = lax.dynamic_slice_in_dim(padded, _FARTHEST - row, height)
        starts = [_FARTHEST - column for column in reach]
        shifted = [moved[..., start : start + width] for start in starts]
        errors = jnp.concatenate([_over_channels(jnp.abs(frame - x)) for x in shifted], axis=1)
        means = _sum_near(jnp.minimum(errors, _LARGEST_ERROR) * weight, _WINDOW) / total
        for column, error in zip(reach, jnp.split(means, len(reach), axis=1), strict=True):
            squared = (row**2 + column**2).astype(error.dtype)
            cost = error + _COST_OF_DISTANCE * squared
            this = (cost, row.astype(error.dtype), jnp.asarray(column, error.dtype))
            better = cost < best[0]
            best = tuple(jnp.where(better, new, old) for new, old in zip(this, best, strict=True))
        return best, None

    start = (jnp.full_like(mask, jnp.inf), jnp.zeros_like(mask), jnp.zeros_like(mask))
    (_, rows, columns), _ = lax.scan(best_of_row, start, jnp.array(reach))
    return jnp.concatenate([rows, columns], axis=1)


def _with_neighbours(x: Maps) -> Float[Array, "batch height width channels_4"]:
    """Returns each pixel with those to its right, below, and below to the right, as channels.

    One gather of four times as many channels is faster than four. What lies outside of the frame
    has no meaning.
    """
    right = jnp.roll(x, -1, axis=2)
    both = jnp.concatenate([x, right], axis=-1)
    return jnp.concatenate([both, jnp.roll(both, -1, axis=1)], axis=-1)


def _between(
    x: Float[Array, "batch height width channels_4"],
    positions: Float[Array, "rows two batch columns"],
) -> Array:
    """Returns `_with_neighbours` of an image at positions, linear between pixels; edges repeat."""
    batch, height, width, channels = x.shape
    rows, columns = (
        jnp.clip(positions[:, axis], 0, size - 1) for axis, size in enumerate((height, width))
    )
    row, column = (
        jnp.minimum(jnp.floor(p), size - 2) for p, size in ((rows, height), (columns, width))
    )
    lower, right = (rows - row)[:, None], (columns - column)[:, None]
    pixel = (row * width + column).astype(jnp.int32)
    pixel += height * width * jnp.arange(batch)[None, :, None]
    corners = jnp.moveaxis(x.reshape(-1, channels)[pixel], -1, 1)
    above_left, above_right, below_left, below_right = jnp.split(corners, 4, axis=1)
    above = (1 - right) * above_left + right * above_right
    below = (1 - right) * below_left + right * below_right
    return (1 - lower) * above + lower * below


def _products(frame: Planes, moved: Planes, gradients: tuple[Array, Array], weight: Plane) -> Array:
    """Returns the products of gradients with each other and with the error, weighted."""
    rows, columns = ((a + b) / 2 for a, b in zip(gradients, _gradients(moved), strict=True))
    error = frame - moved
    robust = weight / (1 + (_over_channels(jnp.abs(error)) / _OUTLIER) ** 2)
    products = (rows * rows, rows * columns, columns * columns, rows * error, columns * error)
    return jnp.concatenate([robust * _over_channels(product) for product in products], axis=1)


def _step(means: Planes) -> Array:
    """Returns a step of Lucas and Kanade: a 2x2 least-squares problem in each window."""
    rr, rc, cc, re, ce = jnp.split(means, 5, axis=1)
    rr, cc = rr + _LEAST_TEXTURE, cc + _LEAST_TEXTURE
    step = -jnp.concatenate([cc * re - rc * ce, rr * ce - rc * re], axis=1) / (rr * cc - rc**2)
    return jnp.clip(step, -_LARGEST_STEP, _LARGEST_STEP)


def _gradients(x: Planes) -> tuple[Array, Array]:
    """Returns central differences along rows and columns; edges repeat."""
    height, *_, width = x.shape
    return _over_rows(_differences(height), x), _over_columns(_differences(width), x)


def _differences(size: int) -> np.ndarray:
    index = np.arange(size)
    after, before = np.minimum(index + 1, size - 1), np.maximum(index - 1, 0)
    matrix: np.ndarray = (np.eye(size)[after] - np.eye(size)[before]) / 2
    return matrix
