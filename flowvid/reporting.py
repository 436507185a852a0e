"""What a run tells while it trains: TensorBoard events and the progress bar."""

import pathlib
from typing import Any

import jax
from tqdm import tqdm

from flowvid import steps
from flowvid.config import Config
from flowvid.errors import TrainingError


class Reporter:
    """Writes what happens to TensorBoard and to the progress bar; only the first host does."""

    def __init__(self, config: Config, workdir: pathlib.Path, done: int) -> None:
        from flax.metrics.tensorboard import SummaryWriter  # here, since it imports TensorFlow

        self.writer = SummaryWriter(str(workdir)) if jax.process_index() == 0 else None
        self.batch_size = config.batch_size
        self.metric = config.metric
        self.bar = tqdm(
            total=config.num_steps,
            initial=done,
            desc=f"training ({config.metric.name} bits per dimension)",
            unit="step",
            disable=jax.process_index() != 0,
        )
        self.shown: dict[str, str] = {}

    def show(self, **values: str) -> None:
        """Sets named values on the progress bar."""
        self.shown |= values
        self.bar.set_postfix(self.shown)

    def log(self, step: int, prefix: str, values: dict[str, Any]) -> None:
        """Writes scalars as TensorBoard events.

        Raises:
            TrainingError: when bits per dimension are below zero, which no code can reach.
        """
        bits = values.get("bits_per_dim", 0.0)
        if self.metric.floor and bits < 0:
            raise TrainingError(
                f"the {prefix}'s bits per dimension are {bits:.3f} at step {step}: below zero the "
                "log-determinant must be wrong. This is a bug, please report it."
            )
        if self.writer is not None:
            for name, value in values.items():
                if name == "bits_per_dim":
                    name = f"bits_per_dim_{self.metric.name}"
                self.writer.scalar(f"{prefix}/{name}", value, step)

    def steps_logged(self, step: int, metrics: dict[str, Any]) -> None:
        """Reports the metrics of a step of head and tail; waits for the devices."""
        for name, values in metrics.items():
            host = {key: float(value) for key, value in steps.unreplicate(values).items()}
            self.log(step, name, host)
            self.show(**{name: f"{host['bits_per_dim']:.3f}"})
        rate = self.bar.format_dict["rate"]
        self.show(**{"videos/s": f"{rate * self.batch_size:.1f}" if rate else "..."})

    def close(self) -> None:
        """Ends the progress bar and writes out what is left."""
        self.bar.close()
        if self.writer is not None:
            self.writer.close()
