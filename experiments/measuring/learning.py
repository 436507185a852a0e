"""Measures what a tail has learned after so many steps, and the processor time that these took.

It is meant for a process of its own that may use one core. Reading the clips counts, compiling and
evaluating do not.
"""

import time
from typing import Any

import jax
import numpy as np

from experiments.measuring import costs
from flowvid import cli, random_keys
from flowvid.data import datasets
from flowvid.evaluation import scoring
from flowvid.parallel.devices import replicate
from flowvid.training import train_state, trainer

_VIDEOS = 64  # of the validation split


def tail(changes: dict[str, Any]) -> dict[str, Any]:
    """Trains a tail, with the whole schedule of its learning rate, and evaluates it.

    Args:
        changes: the configuration, as in `costs`, with the number of steps.

    Returns:
        {"steps", "cpu_minutes", "bits_per_dim", its "standard_error" over clips}.
    """
    cli.enable_compilation_cache()
    config = costs.config_of(changes)
    assert config.num_steps is not None
    train, validation = (
        datasets.load(config.dataset, split, **datasets.options_of(config))
        for split in ("train", "validation")
    )
    batches = trainer.to_devices(
        datasets.train_batches(train, batch_size=config.batch_size, seed=config.seed)
    )
    first = next(batches)
    params = trainer.initial_params(config, jax.tree.map(lambda x: x[0], first))
    state = replicate(
        train_state.create(config, params["tail"], trainer.optimisers(config)["tail"])
    )
    step = trainer.train_steps(config)["tail"].compile(state, first)
    start = time.process_time()
    for _ in range(config.num_steps):
        state, _ = step(state, next(batches))
    jax.block_until_ready(state)
    spent = time.process_time() - start
    bits = scoring.score(
        scoring.evaluator(config, config.metric),
        {"head": replicate(params["head"]), "tail": train_state.eval_params(state)},
        scoring.Noise(config.seed, random_keys.VALIDATION),
        validation,
        config.batch_size,
        min(_VIDEOS, len(validation)),
        "evaluating",
    )
    assert bits is not None
    of_videos = np.mean(bits.tail, axis=1)
    return {
        "steps": config.num_steps,
        "cpu_minutes": spent / 60,
        "bits_per_dim": float(np.mean(of_videos)),
        "standard_error": scoring.standard_error(of_videos),
    }
