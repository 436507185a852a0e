"""The stability watch: diagnostics that show numerical trouble of a flow before it breaks."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from flowvid import random_keys
from flowvid.arrays import Params
from flowvid.config.schema import Config
from flowvid.flows.protocol import Diagnostic
from flowvid.video import head, tail
from flowvid.video.build import encoder_of, flow_of
from flowvid.video.frames import Batch, head_frames, tail_frames

# As a fraction of a bin's width. With a larger error, samples are not of the evaluated density.
ROUND_TRIP_BINS = 0.1

Report = dict[str, dict[str, Diagnostic]]  # by model, then by name


class Watch:
    """Computes the diagnostics of a run's models, on a fixed batch of held-out clips."""

    def __init__(self, config: Config, batch: Batch) -> None:
        self.config = config
        self.batch = jax.tree.map(jnp.asarray, batch)

    def __call__(self, params: dict[str, Params]) -> Report:
        """Returns the diagnostics of each model.

        These are the flow's and the context encoder's own, and "round_trip_error", the largest
        |x - decode(encode(x))|, where pixels are in [-1/2, 1/2].

        Args:
            params: parameters of the run's models, by name, on the host.
        """
        limit = ROUND_TRIP_BINS * 2.0**-self.config.n_bits
        what = f"the round-trip error, where a bin is {2.0**-self.config.n_bits:.3g} wide,"
        report: Report = {}
        for name, of_model in params.items():
            error = float(_ROUND_TRIPS[name](self.config, of_model, self.batch))
            report[name] = {
                **flow_of(self.config, name).diagnostics(of_model["flow"]),
                **encoder_of(self.config, name).diagnostics(of_model["context"]),
                "round_trip_error": Diagnostic(error, what, high=limit),
            }
        return report


def warnings(report: Report) -> dict[str, str]:
    """Returns a warning for each diagnostic beyond its limit or non-finite, by "model/name"."""
    found = {}
    for model, values in report.items():
        for name, (value, what, low, high) in values.items():
            if low <= value <= high:
                continue
            limit = f"at least {low:g}" if value < low else f"at most {high:g}"
            found[f"{model}/{name}"] = (
                f"{what} of the {model} is {value:.3g} and should be {limit}: the {model} may soon "
                "break. A lower --learning_rate, more --warmup_steps or --coupling=additive may "
                "help."
            )
    return found


@functools.partial(jax.jit, static_argnames="config")
def _head_round_trip(config: Config, params: Params, batch: Batch) -> Array:
    keys = random_keys.keys_of_frames(config.seed, random_keys.STABILITY, 0, batch.example)
    x = head_frames(keys, batch, config.metric)
    return jnp.max(jnp.abs(x - head.reconstruct(config, params, x, batch.label)))


@functools.partial(jax.jit, static_argnames="config")
def _tail_round_trip(config: Config, params: Params, batch: Batch) -> Array:
    keys = random_keys.keys_of_frames(config.seed, random_keys.STABILITY, 0, batch.example)
    drawn = min(2, config.num_frames - 1)  # a few frames show as much as all
    frames = tail_frames(keys, batch, config.metric, drawn)
    return jnp.max(jnp.abs(frames.x - tail.reconstruct(config, params, frames)))


_ROUND_TRIPS: dict[str, Any] = {"head": _head_round_trip, "tail": _tail_round_trip}
