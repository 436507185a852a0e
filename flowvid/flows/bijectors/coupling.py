"""Additive and affine coupling layers, with optional context."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from flowvid.flows.bijectors.base import Bijector, Context, Images, LogDet, Params


def coupling(network: Callable[[int], Any], kind: str) -> Bijector:
    """Returns a coupling, which transforms one half of the channels given the other half.

    Let (a, b) be the halves of x. The network sees a, concatenated with the context (paper, section
    IV and appendix). Its output is t for an additive coupling, as in the paper, and (raw, t) for an
    affine one:

        additive:  y = (a, b + t)                                log|det dy/dx| = 0
        affine:    y = (a, (b + t) * s), s = sigmoid(raw + 2)    log|det dy/dx| = sum log s

    Args:
        network: a function from a number of output channels to a module with `init(key, x)` and
            `apply(params, x)`, both for x [B, H, W, .]. The module need not be invertible.
        kind: "additive" or "affine".

    Raises:
        ValueError: for another kind, or if x has fewer than 2 channels.
    """
    if kind not in ("additive", "affine"):
        raise ValueError(f"Coupling must be 'additive' or 'affine', not {kind!r}.")

    def split(x: Images) -> tuple[Array, Array]:
        if x.shape[-1] < 2:
            raise ValueError(f"A coupling needs at least 2 channels to split, not {x.shape[-1]}.")
        a, b = jnp.split(x, [x.shape[-1] // 2], axis=-1)
        return a, b

    def module(b: Array) -> Any:
        return network(b.shape[-1] * (2 if kind == "affine" else 1))

    def network_input(a: Array, context: Context) -> Array:
        return a if context is None else jnp.concatenate([a, context], axis=-1)

    def scale_and_shift(params: Params, a: Array, b: Array, context: Context) -> tuple[Any, Array]:
        """Returns (log s, t), where log s is None for an additive coupling."""
        out = module(b).apply(params, network_input(a, context))
        if kind == "additive":
            return None, out
        raw, shift = jnp.split(out, 2, axis=-1)
        return jax.nn.log_sigmoid(raw + 2.0), shift

    def init(key: PRNGKeyArray, x: Images, context: Context) -> Params:
        a, b = split(x)
        return module(b).init(key, network_input(a, context))

    def transform(b: Array, log_s: Any, shift: Array) -> tuple[Array, LogDet]:
        if log_s is None:
            return b + shift, jnp.zeros(b.shape[0])
        return (b + shift) * jnp.exp(log_s), jnp.sum(log_s, axis=(1, 2, 3))

    def transform_back(b: Array, log_s: Any, shift: Array) -> Array:
        return b - shift if log_s is None else b * jnp.exp(-log_s) - shift

    def forward(params: Params, x: Images, context: Context) -> tuple[Images, LogDet]:
        a, b = split(x)
        b, log_det = transform(b, *scale_and_shift(params, a, b, context))
        return jnp.concatenate([a, b], axis=-1), log_det

    def inverse(params: Params, y: Images, context: Context) -> tuple[Images, LogDet]:
        a, b = split(y)
        log_s, shift = scale_and_shift(params, a, b, context)
        b = transform_back(b, log_s, shift)
        log_det = 0.0 if log_s is None else jnp.sum(log_s, axis=(1, 2, 3))
        return jnp.concatenate([a, b], axis=-1), jnp.zeros(y.shape[0]) - log_det

    def pull_back(
        params: Params,
        prepared: Params,
        y: Images,
        context: Context,
        dy: Images,
        dlog_det: LogDet,
    ) -> tuple[Images, tuple[Params, Images, Context]]:
        del prepared
        # `forward` leaves a unchanged. So one evaluation of the network is enough for the inverse
        # and the gradients; `inverse` and the VJP of `forward` would need one each.
        (a, b), (da, db) = split(y), split(dy)

        def network_of(params: Params, a: Array, context: Context) -> tuple[Any, Array]:
            return scale_and_shift(params, a, b, context)

        outputs, network_vjp = jax.vjp(network_of, params, a, context)
        b = transform_back(b, *outputs)
        db, *doutputs = jax.vjp(transform, b, *outputs)[1]((db, dlog_det))
        dparams, da_of_network, dcontext = network_vjp(tuple(doutputs))
        x = jnp.concatenate([a, b], axis=-1)
        return x, (dparams, jnp.concatenate([da + da_of_network, db], axis=-1), dcontext)

    return Bijector(init, forward, inverse, pull_back=pull_back)
