"""Measures what saving checkpoints costs the training loop."""

import pathlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

import jax
from tqdm import tqdm

from experiments.measuring import machine
from flowvid.config.schema import Config
from flowvid.data import datasets
from flowvid.training import loop
from flowvid.training.checkpoints import reading
from flowvid.training.checkpoints.saving import Checkpoints
from flowvid.training.trainer import Trainer, initial_state, to_devices
from flowvid.video.frames import Batch


def block(
    trainer: Trainer, batches: Iterator[Batch], num_steps: int, saved: Checkpoints | None
) -> float:
    """Takes a few steps and returns their seconds.

    With `saved` the block begins with a save, and ends once that is wholly written.
    """
    start = time.perf_counter()
    if saved is not None:
        saved.save(trainer.on_host())
    for _ in range(num_steps):
        metrics = trainer.take(next(batches))
    jax.block_until_ready(metrics)
    if saved is not None:
        saved.wait()
    return time.perf_counter() - start


def measure(
    settings: Config, workdir: pathlib.Path, *, pairs: int, num_steps: int
) -> dict[str, Any]:
    """Returns the cost of a save in seconds, and its share of the time between two saves.

    Args:
        settings: of the run.
        workdir: for its checkpoints.
        pairs: blocks with and without a save.
        num_steps: steps of a block.
    """
    settings, dataset, _ = loop.prepare(settings)
    trainer = Trainer(settings, initial_state(settings, dataset))
    batches = to_devices(
        datasets.train_batches(dataset, batch_size=settings.batch_size, seed=settings.seed)
    )
    without, with_save = [], []
    with Checkpoints(workdir, settings, dataset.label_names) as saved:
        block(trainer, batches, num_steps, saved)  # compiles
        for _ in tqdm(range(pairs), desc="blocks with and without a save", unit="pair"):
            without.append(block(trainer, batches, num_steps, None))
            with_save.append(block(trainer, batches, num_steps, saved))
        start = time.perf_counter()
        saved.save(trainer.on_host())
        blocked = time.perf_counter() - start
        saved.wait()
        one = workdir / "checkpoints" / str(reading.saved_steps(workdir)[-1])
        size = sum(path.stat().st_size for path in one.rglob("*") if path.is_file())
    every = min(settings.checkpoint_every, settings.eval_every)
    interval = statistics.median(without) / num_steps * every
    save = statistics.median(b - a for a, b in zip(without, with_save, strict=True))
    return {
        "machine": machine.describe(),
        "preset": settings.preset,
        "variant": settings.variant,
        "pairs": pairs,
        "checkpoint_mb": size / 2**20,
        "step_s": interval / every,
        "steps_between_saves": every,
        "save_s": save,
        "save_blocks_s": blocked,
        "save_share_of_time": save / (interval + save),
    }
