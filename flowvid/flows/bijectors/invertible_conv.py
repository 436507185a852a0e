"""The invertible 1x1 convolution of Glow, parametrised by its LU decomposition."""

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
    """Returns P, L (unit lower triangular) and U (upper triangular, diagonal sign * exp(log_s))."""
    constants, both = lax.stop_gradient(params["constants"]), params["lower_upper"]
    lower = jnp.tril(both, -1) + jnp.eye(both.shape[0])
    upper = jnp.triu(both, 1) + jnp.diag(constants["sign"] * jnp.exp(_log_s(both)))
    return constants["permutation"], lower, upper


# Full float32 precision: by default GPUs and TPUs multiply with 8 to 11 bits, and the computed
# inverse would not invert W. (The network of a coupling does not need this, because both directions
# evaluate it on the same input.)
_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def _inverse_of_lower(lower: Matrix) -> Matrix:
    """Returns the inverse of a lower triangular matrix, computed by matrix products alone.

    The inverses of the diagonal blocks of one size give those of twice the size: a block
    [[A, 0], [B, D]] has the inverse [[A^-1, 0], [-D^-1 B A^-1, D^-1]]. Two products of the whole
    matrix update all blocks at once, which takes few operations on every platform, also for a batch
    of matrices. (On CPU `solve_triangular` calls LAPACK, whose batched solves deadlock if several
    run at once on few threads, as of jaxlib 0.10.2.)
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
    """Multiplies the channels of x by a matrix, as one two-dimensional product."""
    return _product(x.reshape(-1, x.shape[-1]), matrix.T).reshape(x.shape)


def invertible_conv() -> Bijector:
    """Returns the bijector y = W x at every pixel, where W = P L (U + diag(s)).

    log|det dy/dx| = H W sum log|s| (Glow, section 3.2, equation 10). W starts as a random rotation.
    P and the signs of s are constants, because W would not have this determinant if an optimiser
    changed them. The inverse of W is the product of the inverses of its factors, computed once for
    all pixels; it loses precision as the condition number of W grows. `prepare` computes W and its
    inverse.
    """

    def init(key: PRNGKeyArray, x: Images, context: Context) -> Params:
        del context
        channels = x.shape[-1]
        rotation = jnp.linalg.qr(jax.random.normal(key, (channels, channels)))[0]
        permutation, lower, upper = jax.scipy.linalg.lu(rotation)
        s = jnp.diag(upper)
        # One matrix holds both triangles, and log|s| on its diagonal, so that no entry is unused.
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
