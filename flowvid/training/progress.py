"""Reports the progress of training: TensorBoard events and the progress bar."""

import collections
import contextlib
import logging as python_logging
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging
from tensorboardX import SummaryWriter  # without TensorFlow, which takes seconds to import
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tqdm import tqdm

from flowvid.config.schema import Config
from flowvid.errors import TrainingError
from flowvid.parallel import processes
from flowvid.parallel.devices import unreplicate
from flowvid.training import likelihood_bound, stability
from flowvid.training.checkpoints.run_state import RunState
from flowvid.training.stability import Watch

WINDOW = 100  # logged batches that the bound on the likelihood is tested on


def event_writer(workdir: pathlib.Path, step: int) -> SummaryWriter:
    """Returns a writer of TensorBoard events for a run that starts or resumes at a step.

    A run that was killed has logged steps that a resumed run takes again. TensorBoard then shows
    the later events alone. It reads the files of a folder in the order of their names, which begin
    with the time; the new file comes last also where the clock has been set back.
    """
    earlier = sorted(workdir.glob("events.out.tfevents.*"))
    # The suffix keeps a run that is resumed within a second from overwriting the file before.
    writer = SummaryWriter(str(workdir), filename_suffix=f".{len(earlier)}")
    (new,) = set(workdir.glob("events.out.tfevents.*")) - set(earlier)
    if earlier and new < earlier[-1]:
        # The name's parts: events, out, tfevents, seconds, and the host with the suffix.
        *first, _, host = new.name.split(".", 4)
        seconds = int(earlier[-1].name.split(".")[3]) + 1
        new.rename(new.with_name(".".join([*first, str(seconds), host])))
    _forget_events_after(writer, step)
    return writer


def _forget_events_after(writer: SummaryWriter, step: int) -> None:
    """Tells TensorBoard that the events after a step will be written again."""
    start = SessionLog(status=SessionLog.START)
    for event in (Event(file_version="brain.Event:2"), Event(session_log=start)):
        writer.file_writer.add_event(event, step + 1)


class Reporter:
    """Writes to TensorBoard and to the progress bar; only the first process does."""

    def __init__(self, config: Config, workdir: pathlib.Path, run: RunState) -> None:
        # `NonFiniteSteps` logs non-finite numbers, once.
        python_logging.getLogger("tensorboardX").setLevel(python_logging.ERROR)
        self.writer = event_writer(workdir, int(run.step)) if processes.is_first() else None
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
        self._batch_bits: dict[str, collections.deque[float]] = {
            name: collections.deque(maxlen=WINDOW) for name in config.models
        }
        self._count_clips_from(run)

    def roll_back(self, run: RunState) -> None:
        """Continues from a state that was restored."""
        if self.writer is not None:
            _forget_events_after(self.writer, int(run.step))
        self.bar.update(int(run.step) - self.bar.n)  # also where the bar was drawn last
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
        """Shows how long the compilation of a model's step, the body, is taking or has taken."""
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
        """Writes scalars as TensorBoard events."""
        if self.writer is not None:
            for name, value in values.items():
                if name == "bits_per_dim":
                    name = f"bits_per_dim_{self.metric.name}"
                self.writer.add_scalar(f"{prefix}/{name}", value, step)

    def steps_logged(self, step: int, metrics: dict[str, Any]) -> None:
        """Reports the metrics of a step of head and tail; waits for the devices.

        Raises:
            TrainingError: if the bits per dimension of the last batches are impossible.
        """
        for name, values in metrics.items():
            host = {key: float(value) for key, value in unreplicate(values).items()}
            host["clipped_share"] = self._clipped_share(name, step, int(host.pop("clipped")))
            self.log(step, name, host)
            self._check_batch(step, name, host["bits_per_dim"])
            self.show(**{name: f"{host['bits_per_dim']:.3f}"})
        rate = self.bar.format_dict["rate"]
        self.show(**{"videos/s": f"{rate * self.config.batch_size:.1f}" if rate else "..."})

    def validated(self, step: int, name: str, bits_per_dim: np.ndarray) -> None:
        """Reports a validation of the head or the tail.

        Args:
            step: the step at which it was made.
            name: "head" or "tail".
            bits_per_dim: the mean of each video [N].

        Raises:
            TrainingError: if their mean is impossible.
        """
        mean = float(np.mean(bits_per_dim))
        if not np.isfinite(mean) and processes.is_first():
            logging.warning("The %s's validation is non-finite at step %d.", name, step)
        self.log(step, f"validation/{name}", {"bits_per_dim": mean})
        self._check_bound(step, f"the {name}'s validation", "videos", bits_per_dim)
        self.show(**{f"val {name}": f"{mean:.3f}"})

    def _check_batch(self, step: int, name: str, bits_per_dim: float) -> None:
        """Warns of a batch below zero bits per dimension; raises if chance cannot explain it.

        The mean over the last `WINDOW` logged batches is tested, each of which was drawn anew:
        `likelihood_bound.is_violated` says why one batch proves nothing.
        """
        batches = self._batch_bits[name]
        batches.append(bits_per_dim)
        if self.metric.floor and bits_per_dim < 0:
            self.warn(
                f"{name} below zero",
                f"the {name}'s bits per dimension of a batch are {bits_per_dim:.3f}. This may "
                "happen by chance, where the model is certain of the frames; training stops if it "
                "lasts.",
            )
        self._check_bound(step, f"the {name}", "batches", np.array(batches))

    def _check_bound(self, step: int, whose: str, unit: str, bits_per_dim: np.ndarray) -> None:
        if self.metric.floor and likelihood_bound.is_violated(bits_per_dim):
            raise TrainingError(
                f"the bits per dimension of {whose} are {np.nanmean(bits_per_dim):.3f} on average "
                f"over {len(bits_per_dim)} {unit} at step {step}: chance does not explain a value "
                "below zero, so the log-determinant must be wrong. This is a bug, please report it."
            )

    def _clipped_share(self, name: str, step: int, clipped: int) -> float:
        """Returns the share of steps since the last report whose gradient was clipped."""
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
        """Writes the diagnostics of the stability watch, and warns of those beyond their limits."""
        report = watch(params)
        for name, values in report.items():
            self.log(step, f"stability/{name}", {key: found.value for key, found in values.items()})
        for what, message in stability.warnings(report).items():
            self.warn(what, message)

    def warn(self, what: str, message: str) -> None:
        """Logs the first warning of each kind `what`, so that lasting problems are not repeated."""
        if what not in self.warned and processes.is_first():
            self.warned.add(what)
            logging.warning("At step %d, %s", self.bar.n, message)

    def close(self) -> None:
        """Closes the progress bar and writes the remaining events.

        On a full disk these are lost with a warning, so that the error about the checkpoint, which
        says what to do, is the one that ends the run.
        """
        self.bar.close()
        if self.writer is not None:
            try:
                self.writer.close()
            except OSError as error:
                logging.warning("The last TensorBoard events are lost: %s.", error)
