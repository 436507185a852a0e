"""What a run tells while it trains: TensorBoard events and the progress bar."""

import contextlib
import logging as python_logging
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from absl import logging
from tensorboardX import SummaryWriter  # without TensorFlow, which takes seconds to import
from tqdm import tqdm

from flowvid.config.schema import Config
from flowvid.errors import TrainingError
from flowvid.parallel import processes
from flowvid.parallel.devices import unreplicate
from flowvid.training import stability
from flowvid.training.checkpoints.run_state import RunState
from flowvid.training.stability import Watch


class Reporter:
    """Writes what happens to TensorBoard and to the progress bar; only the first host does."""

    def __init__(self, config: Config, workdir: pathlib.Path, run: RunState) -> None:
        # Numbers that are not finite are told by `incidents`, once.
        python_logging.getLogger("tensorboardX").setLevel(python_logging.ERROR)
        self.writer = SummaryWriter(str(workdir)) if processes.is_first() else None
        self.config = config
        self.metric = config.metric
        self.bar = tqdm(
            total=config.num_steps,
            initial=int(run.step),
            desc=f"training ({config.metric.name} bits per dimension)",
            unit="step",
            disable=not processes.is_first(),
        )
        self.shown: dict[str, str] = {}
        self.warned: set[str] = set()
        self._count_clips_from(run)

    def back_to(self, run: RunState) -> None:
        """Goes on from a state that was restored."""
        self.bar.n = int(run.step)
        self.bar.refresh()
        self._count_clips_from(run)

    def _count_clips_from(self, run: RunState) -> None:
        states = {name: getattr(run, name) for name in self.config.models}
        self._clipped = {name: (int(run.step), int(s.clipped)) for name, s in states.items()}

    def show(self, **values: str) -> None:
        """Sets named values on the progress bar."""
        self.shown |= values
        self.bar.set_postfix(self.shown)

    @contextlib.contextmanager
    def compiling(self, name: str) -> Iterator[None]:
        """Shows the seconds that pass while the step of a model is compiled in the body."""
        start, done = time.monotonic(), threading.Event()

        def count() -> None:
            while not done.wait(1.0):
                self.show(**{name: f"compiling, {time.monotonic() - start:.0f} s"})

        self.show(**{name: "compiling"})
        thread = threading.Thread(target=count, daemon=True)
        thread.start()
        outcome = "not compiled"
        try:
            yield
            outcome = f"compiled in {time.monotonic() - start:.0f} s"
        finally:
            done.set()
            thread.join()
            self.show(**{name: outcome})

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
                self.writer.add_scalar(f"{prefix}/{name}", value, step)

    def steps_logged(self, step: int, metrics: dict[str, Any]) -> None:
        """Reports the metrics of a step of head and tail; waits for the devices."""
        for name, values in metrics.items():
            host = {key: float(value) for key, value in unreplicate(values).items()}
            host["clipped_share"] = self._clipped_share(name, step, int(host.pop("clipped")))
            self.log(step, name, host)
            self.show(**{name: f"{host['bits_per_dim']:.3f}"})
        rate = self.bar.format_dict["rate"]
        self.show(**{"videos/s": f"{rate * self.config.batch_size:.1f}" if rate else "..."})

    def _clipped_share(self, name: str, step: int, clipped: int) -> float:
        """Of the steps since the last report."""
        last_step, last_clipped = self._clipped[name]
        self._clipped[name] = (step, clipped)
        share = (clipped - last_clipped) / (step - last_step)
        if step - last_step >= 10 and share > 0.9:
            self.warn(
                f"{name} clipped",
                f"the {name}'s gradient was clipped in {share:.0%} of the last {step - last_step} "
                f"steps: a lower --learning_rate, more --warmup_steps or a larger --{name}_clip "
                "may help.",
            )
        return share

    def stability(self, step: int, watch: Watch, params: dict[str, Any]) -> None:
        """Writes what the stability watch sees, and warns of what is past its limit."""
        report = watch(params)
        for name, values in report.items():
            self.log(step, f"stability/{name}", {key: found.value for key, found in values.items()})
        for what, message in stability.warnings(report).items():
            self.warn(what, message)

    def warn(self, what: str, message: str) -> None:
        """Warns once a process of each `what`, so that what lasts is not repeated."""
        if what not in self.warned and processes.is_first():
            self.warned.add(what)
            logging.warning("At step %d, %s", self.bar.n, message)

    def close(self) -> None:
        """Ends the progress bar and writes out what is left."""
        self.bar.close()
        if self.writer is not None:
            self.writer.close()
