"""How near a Glow is to breaking: its log-scales, and the condition of its 1x1 convolutions."""

import math
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Float

from flowvid.arrays import Params
from flowvid.flows.protocol import Diagnostic

# exp(7) = 1,100 and a condition number of 10^4: each costs float32 about half of its 7 digits.
LARGEST_LOG_SCALE = 7.0
SMALLEST_S = 1e-3
LARGEST_CONDITION = 1e4

# The log-scales among the parameters, by name, with the factor that each has in its exponential:
# ActNorm, the learned Gaussian, and the gain exp(3 scale) of the zero-initialised convolutions.
_LOG_SCALES = {"log_scale": 1.0, "log_sd": 1.0, "scale": 3.0}


def diagnostics(params: Params) -> dict[str, Diagnostic]:
    """Returns the extremes of the log-scales and, of the 1x1 convolutions, |s| and condition.

    "log_scale_min" and "log_scale_max" cover the log-scales that are parameters, not those that an
    affine coupling computes; "condition" is that of the 2-norm.
    """
    found = log_scale_range(params)
    weights = list(_weights(params))
    if weights:
        found["smallest_s"] = Diagnostic(
            min(float(s.min()) for _, s in weights),
            "the smallest |s| of a 1x1 convolution",
            low=SMALLEST_S,
        )
        found["condition"] = Diagnostic(
            max(condition(w) for w, _ in weights),
            "the condition number of a 1x1 convolution",
            high=LARGEST_CONDITION,
        )
    return found


def log_scale_range(params: Params) -> dict[str, Diagnostic]:
    """Returns the smallest and the largest log-scale among the parameters; {} without any."""
    scales = [scale.reshape(-1) for scale in _log_scales(params)]
    if not scales:
        return {}
    joined = np.concatenate(scales)
    limits = {"low": -LARGEST_LOG_SCALE, "high": LARGEST_LOG_SCALE}
    return {
        "log_scale_min": Diagnostic(float(joined.min()), "the smallest log-scale", **limits),
        "log_scale_max": Diagnostic(float(joined.max()), "the largest log-scale", **limits),
    }


def condition(weights: Float[np.ndarray, "*steps channels channels"]) -> float:
    """Returns the largest ratio of singular values, or infinity where there is none."""
    if not np.isfinite(weights).all():
        return math.inf
    return float(np.max(np.linalg.cond(weights)))


def _log_scales(params: Params) -> Iterator[np.ndarray]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        factor = _LOG_SCALES.get(getattr(path[-1], "key", ""))
        if factor is not None:
            yield factor * np.asarray(leaf, np.float64)


def _weights(params: Params) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields W = P L (U + diag s) of each stack of 1x1 convolutions, and its |s|."""
    if isinstance(params, dict) and "lower_upper" in params:
        both = np.asarray(params["lower_upper"], np.float64)
        constants = {k: np.asarray(v, np.float64) for k, v in params["constants"].items()}
        identity = np.eye(both.shape[-1])
        s = np.exp(np.diagonal(both, axis1=-2, axis2=-1))
        upper = np.triu(both, 1) + (constants["sign"] * s)[..., None] * identity
        yield constants["permutation"] @ (np.tril(both, -1) + identity) @ upper, s
    elif isinstance(params, dict | tuple):
        for child in params.values() if isinstance(params, dict) else params:
            yield from _weights(child)
