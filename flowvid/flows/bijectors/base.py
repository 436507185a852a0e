"""The contract of a bijector, and the two combinators, `chain` and `repeat`.

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


def _as_they_are(params: Params) -> Params:
    return params


class Bijector(NamedTuple):
    """An invertible map as a tuple of pure functions, like an `optax.GradientTransformation`.

    - `init(key, x, context) -> params` sees a batch, for data-dependent initialisation.
    - `forward(params, x, context) -> (y, log_det)`, where log_det [B] is log|det dy/dx| in nats,
      summed over all dimensions of an example.
    - `inverse(params, y, context) -> (x, log_det)`, where log_det is log|det dx/dy|, the negative
      of the forward one.
    - `prepare(params) -> params` computes what depends on the parameters alone, for callers that
      use them many times. All functions except `init` accept parameters in either form.
    - `pull_back(params, prepared, y, context, dy, dlog_det) -> (x, (dparams, dx, dcontext))`
      recomputes the input of `forward` from its output, and returns the gradients of a loss with
      respect to the arguments of `forward`. A bijector defines it if it can do so at a lower cost
      than `inverse` followed by the VJP of `forward`, which replace a `pull_back` of None.

    The context is None or [B, H, W, K], at the resolution of x. Arrays under a key "constants" in
    params are not trainable: the functions apply `stop_gradient` to them, and optimisers skip them
    (`flowvid.training.train_state`).
    """

    init: Callable[[PRNGKeyArray, Any, Any], Params]
    forward: Callable[[Params, Any, Any], tuple[Any, Any]]
    inverse: Callable[[Params, Any, Any], tuple[Any, Any]]
    prepare: Callable[[Params], Params] = _as_they_are
    pull_back: Callable[[Params, Params, Any, Any, Any, Any], tuple[Any, Any]] | None = None


def pull_back(
    bijector: Bijector,
    params: Params,
    prepared: Params,
    y: Images,
    context: Context,
    dy: Images,
    dlog_det: LogDet,
) -> tuple[Array, tuple[Params, Array, Array | None]]:
    """Applies the `pull_back` of a bijector, or its `inverse` and the VJP of its `forward`."""
    if bijector.pull_back is not None:
        return bijector.pull_back(params, prepared, y, context, dy, dlog_det)
    x, _ = bijector.inverse(prepared, y, context)
    return x, jax.vjp(bijector.forward, params, x, context)[1]((dy, dlog_det))


def _sum(context: Context, other: Context) -> Context:
    return None if context is None or other is None else context + other


def chain(*bijectors: Bijector) -> Bijector:
    """Returns the composition of bijectors; `forward` applies the first one first.

    Params are a tuple with one entry per bijector. Each bijector is initialised on the output of
    those before it.
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

    def prepare(params: Params) -> Params:
        return tuple(b.prepare(p) for b, p in zip(bijectors, params, strict=True))

    def walk_back(
        params: Params,
        prepared: Params,
        y: Images,
        context: Context,
        dy: Images,
        dlog_det: LogDet,
    ) -> tuple[Array, tuple[Params, Array, Array | None]]:
        gradients = []
        dcontext = None if context is None else jnp.zeros_like(context)
        backwards = (tuple(reversed(each)) for each in (bijectors, params, prepared))
        for bijector, p, q in zip(*backwards, strict=True):
            y, (dp, dy, dc) = pull_back(bijector, p, q, y, context, dy, dlog_det)
            gradients.append(dp)
            dcontext = _sum(dcontext, dc)
        return y, (tuple(reversed(gradients)), dy, dcontext)

    return Bijector(init, forward, inverse, prepare, walk_back)


def repeat(step: Bijector, n: int, reversible: bool = False) -> Bijector:
    """Returns the composition of `n` copies of a bijector, each with its own parameters.

    Params are those of `step`, stacked on a leading axis of length n. A `lax.scan` iterates over
    them, so that the time to compile does not grow with n.

    Args:
        step: the bijector to repeat.
        n: number of copies.
        reversible: whether the backward pass of `forward` recomputes the input of each step from
            its output (i-RevNet, Jacobsen et al. 2018), so that its memory does not grow with n.
            Otherwise the activations of each step are stored. The gradients are equal up to
            rounding.
    """

    def init(key: PRNGKeyArray, x: Images, context: Context) -> Params:
        def body(x: Images, key: PRNGKeyArray) -> tuple[Images, Params]:
            params = step.init(key, x, context)
            y, _ = step.forward(params, x, context)
            return y, params

        return lax.scan(body, x, jax.random.split(key, n))[1]

    # Outside the scan, which would repeat these small operations n times.
    prepare = jax.vmap(step.prepare)

    def walk(direction: Callable, params: Params, x: Images, context: Context, back: bool) -> Any:
        def body(carry: tuple[Images, LogDet], p: Params) -> tuple[tuple[Images, LogDet], None]:
            x, total = carry
            y, log_det = direction(p, x, context)
            return (y, total + log_det), None

        return lax.scan(body, (x, jnp.zeros(x.shape[0])), params, reverse=back)[0]

    def forward(params: Params, x: Images, context: Context) -> tuple[Images, LogDet]:
        return walk(step.forward, params, x, context, back=False)

    def inverse(params: Params, y: Images, context: Context) -> tuple[Images, LogDet]:
        return walk(step.inverse, prepare(params), y, context, back=True)

    def walk_back(
        params: Params,
        prepared: Params,
        y: Images,
        context: Context,
        dy: Images,
        dlog_det: LogDet,
    ) -> tuple[Array, tuple[Params, Array, Array | None]]:
        def body(carry: tuple[Array, Array, Any], both: Any) -> tuple[Any, Params]:
            (y, dy, dcontext), (p, q) = carry, both
            x, (dp, dx, dc) = pull_back(step, p, q, y, context, dy, dlog_det)
            return (x, dx, _sum(dcontext, dc)), dp

        start = (y, dy, None if context is None else jnp.zeros_like(context))
        (x, dx, dcontext), dparams = lax.scan(body, start, (params, prepared), reverse=True)
        return x, (dparams, dx, dcontext)

    if not reversible:
        return Bijector(init, forward, inverse, prepare, walk_back)

    def backward(params: Params, *rest: Any) -> Any:
        return walk_back(params, prepare(params), *rest)[1]

    return Bijector(init, _rebuilding(forward, backward), inverse, prepare, walk_back)


def _rebuilding(forward: Callable, backward: Callable) -> Callable:
    """Returns `forward` with a VJP whose only residuals are its output, params and context."""

    def fwd(params: Params, x: Images, context: Context) -> tuple[Any, Any]:
        y, log_det = forward(params, x, context)
        return (y, log_det), (params, y, context)

    def bwd(residuals: Any, cotangents: Any) -> Any:
        return backward(*residuals, *cotangents)

    rebuilding = jax.custom_vjp(forward)
    rebuilding.defvjp(fwd, bwd)
    return rebuilding
