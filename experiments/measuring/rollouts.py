"""Measures sampling over batch size and length, of several models in turns.

It is meant for a process of its own that may use one core, and takes processor time, which other
work on the machine disturbs less than time by the clock.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.measuring import costs
from experiments.measuring.rates import cpu_seconds
from flowvid import cli, random_keys
from flowvid.video import sampling


def in_turns(
    models: dict[str, dict[str, Any]],
    batches: Sequence[int],
    lengths: Sequence[int],
    repeats: int,
) -> list[dict[str, Any]]:
    """Samples videos from nothing with each model, batch size and length in turn.

    Args:
        models: configurations by name, as in `costs`.
        batches: numbers of videos.
        lengths: numbers of frames.
        repeats: how often each is measured, after a time that is not counted.

    Returns:
        rows {"model", "batch", "frames", "seconds" of each repeat}.
    """
    cli.enable_compilation_cache()
    samplers = {name: _sampler(changes) for name, changes in models.items()}
    rows: list[dict[str, Any]] = []
    for batch in batches:
        of_batch: list[dict[str, Any]] = [
            {"model": name, "batch": batch, "frames": length, "seconds": []}
            for name, length in itertools.product(models, lengths)
        ]
        for repeat, row in itertools.product(range(repeats + 1), of_batch):
            sample = samplers[row["model"]]
            spent = cpu_seconds(functools.partial(sample, batch, row["frames"]))
            row["seconds"] += [spent] * (repeat > 0)
        rows += of_batch
    return rows


def _sampler(changes: dict[str, Any]) -> Callable[[int, int], Any]:
    """Returns what samples so many videos of so many frames with drawn parameters."""
    config = costs.config_of(changes)
    params = costs.drawn_parameters(config)
    how = sampling.drawings(config, None, None)

    def sample(batch: int, length: int) -> Any:
        keys = random_keys.video_keys(0, batch)
        labels = jnp.asarray(np.arange(batch) % costs.NUM_LABELS)
        return sampling.collected(sampling.frames(config, params, keys, labels, how, length))

    return sample
