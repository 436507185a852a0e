"""The bijector contract and the two ways to combine bijectors: `chain` and `repeat`.

Dimensions: B batch, H height, W width, C channels, K context channels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

Params = Any  # a tree of arrays
Images = Float[Array, "batch height width channels"]
Context = Float[Array, "batch height width context_channels"] | None
LogDet = Float[Array, " batch"]


class Bijector(NamedTuple):
    """An invertible map as a triple of pure functions, in the manner of optax.

    `init(key, x, context) -> params` sees a batch, so data-dependent initialisation is what it does
    and nothing else is needed for it. `forward(params, x, context) -> (y, log_det)` and
    `inverse(params, y, context) -> (x, log_det)`, where log_det [B] is in nats, summed over all
    dimensions of an example, and belongs to the direction that was walked: log|det dy/dx| forward,
    log|det dx/dy| backward. Context is None or [B, H, W, K] at the resolution of x after squeezing.

    Arrays under a key named "constants" in params are not trainable: the functions read them behind
    `stop_gradient` and optimisers leave them out (`flowvid.state`).
    """

    init: Callable[[PRNGKeyArray, Any, Any], Params]
    forward: Callable[[Params, Any, Any], tuple[Any, Any]]
    inverse: Callable[[Params, Any, Any], tuple[Any, Any]]


def chain(*bijectors: Bijector) -> Bijector:
    """The composition of bijectors, first one first; the inverse walks the same list backwards.

    Params are a tuple, one entry a bijector; each is initialised on the output of those before.
    """

    def init(key: PRNGKeyArray, x: Images, context: Context) -> Params:
        params = []
        for i, bijector in enumerate(bijectors):
            params.append(bijector.init(jax.random.fold_in(key, i), x, context))
            x, _ = bijector.forward(params[-1], x, context)
        return tuple(params)

    def forward(params: Params, x: Images, context: Context) -> tuple[Array, LogDet]:
        total = jnp.zeros(x.shape[0])
        for bijector, p in zip(bijectors, params, strict=True):
            x, log_det = bijector.forward(p, x, context)
            total += log_det
        return x, total

    def inverse(params: Params, y: Images, context: Context) -> tuple[Array, LogDet]:
        total = jnp.zeros(y.shape[0])
        for bijector, p in zip(reversed(bijectors), reversed(params), strict=True):
            y, log_det = bijector.inverse(p, y, context)
            total += log_det
        return y, total

    return Bijector(init, forward, inverse)


def repeat(step: Bijector, n: int) -> Bijector:
    """`n` steps of one kind, each with parameters of its own, compiled as one body.

    Params are those of `step` stacked on a leading axis of length n and walked by `lax.scan`, so
    compile time does not grow with n.
    """

    def init(key: PRNGKeyArray, x: Images, context: Context) -> Params:
        def body(x: Images, key: PRNGKeyArray) -> tuple[Images, Params]:
            params = step.init(key, x, context)
            y, _ = step.forward(params, x, context)
            return y, params

        return lax.scan(body, x, jax.random.split(key, n))[1]

    def walk(direction: Callable, reverse: bool) -> Callable:
        def run(params: Params, x: Images, context: Context) -> tuple[Images, LogDet]:
            def body(carry: tuple[Images, LogDet], p: Params) -> tuple[tuple[Images, LogDet], None]:
                x, total = carry
                y, log_det = direction(p, x, context)
                return (y, total + log_det), None

            return lax.scan(body, (x, jnp.zeros(x.shape[0])), params, reverse=reverse)[0]

        return run

    return Bijector(init, walk(step.forward, False), walk(step.inverse, True))
