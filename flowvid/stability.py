"""The stability watch: numbers that say that a flow is about to break, before it does."""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flowvid import head, steps, streams, tail
from flowvid.bijectors.base import Params
from flowvid.config import Config

# exp(7) = 1,100 and a condition of 10^4: each costs float32 about half of its 7 digits.
LARGEST_LOG_SCALE = 7.0
SMALLEST_S = 1e-3
LARGEST_CONDITION = 1e4
ROUND_TRIP_BINS = 0.1  # of a bin's width: beyond it samples are no longer what was evaluated

# What the named parameters multiply a flow by, as factors of its logarithm: ActNorm and the
# processor's, the learned Gaussian, and the gain exp(3 scale) of the zero-initialised convolutions.
_LOG_SCALES = {"log_scale": 1.0, "log_sd": 1.0, "scale": 3.0}


class Watch:
    """Looks at a run's models on a fixed batch of held-out clips."""

    def __init__(self, config: Config, batch: steps.Batch) -> None:
        self.config = config
        self.batch = jax.tree.map(jnp.asarray, batch)

    def __call__(self, params: dict[str, Params]) -> dict[str, dict[str, float]]:
        """What there is to see, by the models' names.

        Args:
            params: of the run's models, by name, on the host.

        Returns:
            "log_scale_min" and "log_scale_max" over all log-scales that are parameters,
            "smallest_s" and "condition" (2-norm) of the 1x1 convolutions, and "round_trip_error",
            the largest |x - inverse(forward(x))|, where pixels are [-1/2, 1/2].
        """
        report = {}
        for name, model_params in params.items():
            scales = np.concatenate([scale.reshape(-1) for scale in _log_scales(model_params)])
            weights = list(_weights(model_params))
            error = _ROUND_TRIPS[name](self.config, model_params, self.batch)
            report[name] = {
                "log_scale_min": float(scales.min()),
                "log_scale_max": float(scales.max()),
                "smallest_s": min(float(s.min()) for _, s in weights),
                "condition": max(condition(w) for w, _ in weights),
                "round_trip_error": float(error),
            }
        return report

    def warnings(self, report: dict[str, dict[str, float]]) -> dict[str, str]:
        """A sentence for each number that is past its limit or not finite, by "model/number"."""
        bin_width = 2.0**-self.config.n_bits
        found = {}
        for name, values in report.items():
            largest = max(-values["log_scale_min"], values["log_scale_max"])
            error = values["round_trip_error"]
            checks = {
                "log_scale": (
                    largest <= LARGEST_LOG_SCALE,
                    f"the {name} has a log-scale of {largest:.3g} (limit {LARGEST_LOG_SCALE:g})",
                ),
                "smallest_s": (
                    values["smallest_s"] >= SMALLEST_S,
                    f"a 1x1 convolution of the {name} has an |s| of {values['smallest_s']:.3g} "
                    f"(limit {SMALLEST_S:g})",
                ),
                "condition": (
                    values["condition"] <= LARGEST_CONDITION,
                    f"a 1x1 convolution of the {name} has the condition "
                    f"{values['condition']:.3g} (limit {LARGEST_CONDITION:g})",
                ),
                "round_trip_error": (
                    error <= ROUND_TRIP_BINS * bin_width,
                    f"the {name} gives its input back with an error of {error:.3g}, "
                    f"{error / bin_width:.2g} of a {self.config.n_bits}-bit bin "
                    f"(limit {ROUND_TRIP_BINS:g})",
                ),
            }
            for what, (good, sentence) in checks.items():
                if not good:
                    found[f"{name}/{what}"] = (
                        f"{sentence}: it may soon break. A lower --learning_rate, more "
                        "--warmup_steps or --coupling=additive may help."
                    )
        return found


def condition(weights: Float[np.ndarray, "*steps channels channels"]) -> float:
    """The largest ratio of singular values; infinite for what is not finite or not invertible."""
    if not np.isfinite(weights).all():
        return math.inf
    return float(np.max(np.linalg.cond(weights)))


def _log_scales(params: Params) -> Iterator[np.ndarray]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        factor = _LOG_SCALES.get(getattr(path[-1], "key", ""))
        if factor is not None:
            yield factor * np.asarray(leaf, np.float64)


def _weights(params: Params) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """W = P L (U + diag s) of every 1x1 convolution, its steps stacked, and its |s|."""
    if isinstance(params, dict) and "log_s" in params:
        lower, upper, log_s = (
            np.asarray(params[k], np.float64) for k in ("lower", "upper", "log_s")
        )
        constants = {k: np.asarray(v, np.float64) for k, v in params["constants"].items()}
        identity = np.eye(lower.shape[-1])
        s = np.exp(log_s)
        u = np.triu(upper, 1) + (constants["sign"] * s)[..., None] * identity
        yield constants["permutation"] @ (np.tril(lower, -1) + identity) @ u, s
    elif isinstance(params, dict | tuple):
        for child in params.values() if isinstance(params, dict) else params:
            yield from _weights(child)


@functools.partial(jax.jit, static_argnames="config")
def _head_round_trip(config: Config, params: Params, batch: steps.Batch) -> Array:
    keys = streams.example_keys(config.seed, 0, batch.example, streams.HEAD)
    x = steps.head_frames(keys, batch.video, config.metric)
    return jnp.max(jnp.abs(x - head.reconstruct(config, params, x, batch.label)))


@functools.partial(jax.jit, static_argnames="config")
def _tail_round_trip(config: Config, params: Params, batch: steps.Batch) -> Array:
    keys = streams.example_keys(config.seed, 0, batch.example, streams.TAIL)
    drawn = min(2, config.num_frames - 1)  # a few frames tell as much as all
    frames = steps.tail_frames(keys, batch.video, config.metric, drawn)
    return jnp.max(jnp.abs(frames.x - tail.reconstruct(config, params, *frames)))


_ROUND_TRIPS: dict[str, Any] = {"head": _head_round_trip, "tail": _tail_round_trip}
