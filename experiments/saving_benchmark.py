"""What saving costs the training loop: `python -m experiments.saving_benchmark`.

Trains with a preset on `moving_shapes`, in blocks of a few steps that begin with a save and blocks
that do not, in turn. A save's cost is the median difference of such pairs; its share is of the time
between two checkpoints that the preset asks for. Prints a table, and writes JSON with --out.
"""

import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
from absl import flags
from tqdm import tqdm

from experiments import machine
from flowvid import cli
from flowvid.config import schema
from flowvid.data import datasets
from flowvid.training import loop
from flowvid.training.checkpoints import reading
from flowvid.training.checkpoints.saving import Checkpoints
from flowvid.training.trainer import Trainer, initial_state, to_devices
from flowvid.video.frames import Batch

_PRESET = flags.DEFINE_enum("preset", "small", list(schema.PRESETS), "Of the model.")
_VARIANT = flags.DEFINE_enum("variant", "state_label", list(schema.VARIANTS), "Of the model.")
_PAIRS = flags.DEFINE_integer("pairs", 15, "Blocks with a save, and without.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 10, "Steps of a block.", lower_bound=1)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where data sets are. [~/tensorflow_datasets]")
_OUT = flags.DEFINE_string("out", None, "JSON file to write. [none]")


def block(trainer: Trainer, batches: Iterator[Batch], saved: Checkpoints | None) -> float:
    """Seconds of a block; with `saved` until the checkpoint is wholly written, too."""
    start = time.perf_counter()
    if saved is not None:
        saved.save(trainer.on_host())
    for _ in range(_STEPS.value):
        metrics = trainer.take(next(batches))
    jax.block_until_ready(metrics)
    if saved is not None:
        saved.wait()
    return time.perf_counter() - start


def measure(settings: schema.Config, workdir: pathlib.Path) -> dict[str, Any]:
    """All figures."""
    settings, dataset, _ = loop.prepare(settings)
    trainer = Trainer(settings, initial_state(settings, dataset))
    batches = to_devices(
        datasets.train_batches(dataset, batch_size=settings.batch_size, seed=settings.seed)
    )
    without, with_save = [], []
    with Checkpoints(workdir, settings, dataset.label_names) as saved:
        block(trainer, batches, saved)  # compiles
        for _ in tqdm(range(_PAIRS.value), desc="blocks with and without a save", unit="pair"):
            without.append(block(trainer, batches, None))
            with_save.append(block(trainer, batches, saved))
        start = time.perf_counter()
        saved.save(trainer.on_host())
        blocked = time.perf_counter() - start
        saved.wait()
        one = workdir / "checkpoints" / str(reading.saved_steps(workdir)[-1])
        size = sum(path.stat().st_size for path in one.rglob("*") if path.is_file())
    every = min(settings.checkpoint_every, settings.eval_every)
    interval = statistics.median(without) / _STEPS.value * every
    save = statistics.median(b - a for a, b in zip(without, with_save, strict=True))
    return {
        "machine": machine.describe(),
        "preset": settings.preset,
        "variant": settings.variant,
        "pairs": _PAIRS.value,
        "checkpoint_mb": size / 2**20,
        "step_s": interval / every,
        "steps_between_saves": every,
        "save_s": save,
        "save_blocks_s": blocked,
        "save_share_of_time": save / (interval + save),
    }


def main() -> None:
    """Measures in a temporary folder, prints, writes."""
    settings = schema.preset_config(_PRESET.value, variant=_VARIANT.value, data_dir=_DATA_DIR.value)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(settings, pathlib.Path(folder))
    for name, value in figures.items():
        print(f"{name:24}{value:.3g}" if isinstance(value, float) else f"{name:24}{value}")
    if _OUT.value:
        pathlib.Path(_OUT.value).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
