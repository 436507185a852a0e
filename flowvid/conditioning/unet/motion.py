"""Motion by block matching: what the next frame looks like if things move on as they did.

Dimensions: B batch, H height, W width.
"""

import itertools

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from flowvid.arrays import Images

Mask = Float[Array, "batch height width one"]

FARTHEST = 3  # pixels that things move in a frame, in each direction
_WINDOW = 7  # side of the window in which frames are compared
_LARGEST_ERROR = 0.375  # of a pixel, summed over channels: a single pixel must not decide
_SHARPNESS = 64.0  # of the weights of displacements: e-fold for an error of 1/64 a pixel
_COST_OF_DISTANCE = 0.02  # per squared pixel, so that what does not move stays


def moved_on(last: Images, before: Images, moving: Mask) -> tuple[Images, Mask]:
    """Returns the next frame if what is at each place moves on, and the mask moved likewise.

    For each displacement, the last frame is compared with the one before it, moved by it. What
    comes to a pixel is a mean over displacements, with weights by how well they explain the window
    around the place it comes from.

    Args:
        last: frames [B, H, W, 3] in [-1/2, 1/2).
        before: the frames before them.
        moving: 1 where a pixel may belong to something that moves; errors count there alone.
    """
    reach = range(-FARTHEST, FARTHEST + 1)
    displacements = jnp.array(list(itertools.product(reach, reach)))
    both = jnp.concatenate([last, moving], axis=-1)

    def add(sums: tuple[Array, Array], displacement: Array) -> tuple[tuple[Array, Array], None]:
        total, weighted = sums
        error = jnp.sum(jnp.abs(last - _shifted(before, displacement)), axis=-1, keepdims=True)
        error = _window_mean(jnp.minimum(error, _LARGEST_ERROR) * moving)
        distance = jnp.sum(displacement.astype(error.dtype) ** 2)
        log_weight = -_SHARPNESS * error - _COST_OF_DISTANCE * distance
        weight = _shifted(jnp.exp(log_weight), displacement)
        return (total + weight, weighted + weight * _shifted(both, displacement)), None

    start = jnp.zeros_like(moving), jnp.zeros_like(both)
    (total, weighted), _ = lax.scan(add, start, displacements)
    found = weighted / total
    return found[..., :-1], found[..., -1:]


def _shifted(x: Images, displacement: Array) -> Images:
    """Returns x moved by (rows, columns) of at most `FARTHEST`; the edges are repeated."""
    edges = (FARTHEST, FARTHEST)
    padded = jnp.pad(x, ((0, 0), edges, edges, (0, 0)), mode="edge")
    start = (0, FARTHEST - displacement[0], FARTHEST - displacement[1], 0)
    return lax.dynamic_slice(padded, start, x.shape)


def _window_mean(x: Mask) -> Mask:
    """Returns the mean over the window around each pixel; outside of the frame it is zero."""
    reach = _WINDOW // 2
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (reach, reach)
        padded = jnp.pad(x, pad)
        x = sum(
            (lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i in range(1, _WINDOW)),
            lax.slice_in_dim(padded, 0, x.shape[axis], axis=axis),
        )
    return x / _WINDOW**2
