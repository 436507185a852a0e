"""ActNorm: an affine map per channel, initialised from the first batch."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, PRNGKeyArray

from flowvid.flows.bijectors.base import Bijector, Context, Images, LogDet, Params


def normalising_shift_and_log_scale(
    x: Float[Array, "*batch channels"],
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Returns the shift and log-scale that give each channel of x zero mean and unit variance.

    A channel without variance starts as the identity. The scale 1/0 would produce infinities in the
    first batch in which the channel varies.
    """
    axes = tuple(range(x.ndim - 1))
    mean, std = jnp.mean(x, axes), jnp.std(x, axes)
    varies = std > 1e-6
    return (
        jnp.where(varies, -mean, 0.0),
        jnp.where(varies, -jnp.log(jnp.where(varies, std, 1.0)), 0.0),
    )


def actnorm(data_dependent: bool = True) -> Bijector:
    """Returns the bijector y = (x + shift) * exp(log_scale), per channel.

    log|det dy/dx| = H W sum_c log_scale_c (Glow, section 3.1; paper, section IV).

    Args:
        data_dependent: whether `init` normalises its batch; otherwise ActNorm starts as the
            identity (the untrained row `init` of the paper's Table I).
    """

    def init(key: PRNGKeyArray, x: Images, context: Context) -> Params:
        del key, context
        if data_dependent:
            shift, log_scale = normalising_shift_and_log_scale(x)
        else:
            shift = log_scale = jnp.zeros(x.shape[-1])
        return {"shift": shift, "log_scale": log_scale}

    def per_channel(params: Params) -> tuple[Array, Array]:
        """Returns shift and log-scale with the rank of images."""
        shift, log_scale = params["shift"], params["log_scale"]
        return lax.broadcast_to_rank(shift, 4), lax.broadcast_to_rank(log_scale, 4)

    def log_det(params: Params, x: Images) -> LogDet:
        _, height, width, _ = x.shape
        return jnp.broadcast_to(height * width * jnp.sum(params["log_scale"]), x.shape[:1])

    def forward(params: Params, x: Images, context: Context) -> tuple[Images, LogDet]:
        del context
        shift, log_scale = per_channel(params)
        return (x + shift) * jnp.exp(log_scale), log_det(params, x)

    def inverse(params: Params, y: Images, context: Context) -> tuple[Images, LogDet]:
        del context
        shift, log_scale = per_channel(params)
        return y * jnp.exp(-log_scale) - shift, -log_det(params, y)

    return Bijector(init, forward, inverse)
