"""The invertible 1x1 convolution of Glow, in LU form."""

import functools

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
from jax import Array, lax
from jaxtyping import Float, PRNGKeyArray

from flowvid.flows.bijectors.base import Bijector, Context, Images, LogDet, Params

Matrix = Float[Array, "channels channels"]


def _log_s(lower_upper: Matrix) -> Float[Array, " channels"]:
    """Returns the diagonal. Unlike `jnp.diag`, it gathers nothing in the loop over steps."""
    return jnp.sum(lower_upper * np.eye(lower_upper.shape[0], dtype=lower_upper.dtype), axis=-1)


def _factors(params: Params) -> tuple[Matrix, Matrix, Matrix]:
    """P, L (unit lower triangular) and U (upper triangular with diagonal sign * exp(log_s))."""
    constants, both = lax.stop_gradient(params["constants"]), params["lower_upper"]
    lower = jnp.tril(both, -1) + jnp.eye(both.shape[0])
    upper = jnp.triu(both, 1) + jnp.diag(constants["sign"] * jnp.exp(_log_s(both)))
    return constants["permutation"], lower, upper


# In full float32: what GPUs and TPUs do by default has 8 to 11 bits, and W would not be inverted by
# its inverse. (A coupling's network may be rough, since both directions compute the same thing.)
_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def _inverse_of_lower(lower: Matrix) -> Matrix:
    """The inverse of a lower triangular matrix, by products alone.

    Diagonal blocks of twice the size, [[A, 0], [B, D]], have the inverse [[1/A, 0], [-1/D B 1/A,
    1/D]]; all of them at once are one product from either side. Batched, it is a few operations on
    every platform. (LAPACK's batched triangular solves, which stand for `solve_triangular` on CPU,
    wait for each other for ever where several run at once on few threads, jaxlib 0.10.2.)
    """
    index = np.arange(lower.shape[0])
    inverse, size = jnp.diag(1 / jnp.diag(lower)), 1
    while size < len(index):
        block = index // size
        below = (block[:, None] % 2 == 1) & (block[:, None] == block[None] + 1)
        inverse -= _product(inverse, _product(jnp.where(below, lower, 0), inverse))
        size *= 2
    return inverse


def _apply(x: Images, matrix: Matrix) -> Images:
    """x times the transposed matrix on the channel axis, as one two-dimensional product."""
    return _product(x.reshape(-1, x.shape[-1]), matrix.T).reshape(x.shape)


def invertible_conv() -> Bijector:
    """y = W x at every pixel, W = P L (U + diag(s)) (Glow, section 3.2, equation 10).

    log|det dy/dx| = H W sum log|s|. Starts at a random rotation. P and the signs of s are
    constants: moved by an optimiser, W would no longer have this determinant. The inverse is made
    of those of the two triangles, once for all pixels; it loses precision as the condition of W
    grows. What `prepare` works out is W and its inverse.
    """

    def init(key: PRNGKeyArray, x: Images, context: Context) -> Params:
        del context
        channels = x.shape[-1]
        rotation = jnp.linalg.qr(jax.random.normal(key, (channels, channels)))[0]
        permutation, lower, upper = jax.scipy.linalg.lu(rotation)
        s = jnp.diag(upper)
        # One matrix holds both triangles and, on its diagonal, log|s|: none of it is unused.
        both = jnp.tril(lower, -1) + jnp.triu(upper, 1) + jnp.diag(jnp.log(jnp.abs(s)))
        return {
            "lower_upper": both,
            "constants": {"permutation": permutation, "sign": jnp.sign(s)},
        }

    def prepare(params: Params) -> Params:
        if "matrix" in params:
            return params
        permutation, lower, upper = _factors(params)
        inverse_of_upper = _inverse_of_lower(upper.T).T
        return {
            "matrix": _product(permutation, _product(lower, upper)),
            "inverse": _product(
                inverse_of_upper, _product(_inverse_of_lower(lower), permutation.T)
            ),
            "log_s": _log_s(params["lower_upper"]),
        }

    def log_det(params: Params, x: Images) -> LogDet:
        _, height, width, _ = x.shape
        log_s = params["log_s"] if "log_s" in params else _log_s(params["lower_upper"])
        return jnp.broadcast_to(height * width * jnp.sum(log_s), x.shape[:1])

    def forward(params: Params, x: Images, context: Context) -> tuple[Images, LogDet]:
        del context
        return _apply(x, prepare(params)["matrix"]), log_det(params, x)

    def inverse(params: Params, y: Images, context: Context) -> tuple[Images, LogDet]:
        del context
        return _apply(y, prepare(params)["inverse"]), -log_det(params, y)

    return Bijector(init, forward, inverse, prepare)
