"""The training loop: data in, steps, validation, TensorBoard and checkpoints."""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Iterator

import jax

from flowvid import paths
from flowvid.conditioning.label_names import as_shown
from flowvid.config import config_file
from flowvid.config.schema import Config
from flowvid.data import datasets
from flowvid.errors import ConfigError, Stopped
from flowvid.parallel import processes
from flowvid.training import train_state
from flowvid.training.checkpoints import reading, run_state
from flowvid.training.checkpoints.run_state import RunState
from flowvid.training.checkpoints.saving import Checkpoints
from flowvid.training.progress import Reporter
from flowvid.training.resilience import interruption
from flowvid.training.resilience.non_finite import CompletedStep, NonFiniteSteps
from flowvid.training.stability import Watch
from flowvid.training.trainer import Trainer, initial_state, state_template, to_batch, to_devices
from flowvid.training.validation import Validation
from flowvid.video.frames import Batch


def prepare(config: Config) -> tuple[Config, datasets.Dataset, datasets.Dataset]:
    """Loads the datasets.

    Returns:
        The configuration with the number of steps and labels filled in, and the datasets of
        training and of validation.
    """
    options = datasets.options_of(config)
    with processes.first_goes_first("loading the datasets"):
        train, validation = (
            datasets.load(config.dataset, split, **options) for split in ("train", "validation")
        )
    num_steps = config.num_steps
    if not config.ablation.trains:
        num_steps = 0
    elif num_steps is None:  # one pass
        num_steps = max(len(train) // config.batch_size, 1)
    config = dataclasses.replace(
        config,
        num_steps=num_steps,
        num_labels=len(train.label_names),
        dataset_fingerprint=train.fingerprint,
    )
    return config, train, validation


def train(config: Config, workdir: str | pathlib.Path) -> RunState:
    """Trains a run to its last step, or resumes the run in `workdir`.

    Returns:
        The last state, on the host.

    Raises:
        DataError: if the dataset is missing or does not fit.
        ConfigError: if `workdir` holds a run of another configuration.
        TrainingError: if training cannot continue, or another process trains in `workdir`.
        Stopped: after SIGTERM or SIGINT, once the state is saved.
    """
    workdir = paths.expand(workdir)
    config, dataset, validation = prepare(config)
    _check_devices(config)
    _check_labels(dataset, workdir)
    _check_files(config, workdir)
    paths.output_folder(workdir, "use another --workdir")
    with (
        interruption.only_one(workdir),
        interruption.StopRequest() as stop,
        Checkpoints(workdir, config, dataset.label_names) as checkpoints,
    ):
        run = checkpoints.restore(state_template(config))
        if processes.is_first():  # only now: a run of another configuration has been refused
            config_file.write(config, dataset.label_names, workdir)
        if run is None:
            run = initial_state(config, dataset)
            checkpoints.save(run)
        elif processes.is_first():
            print(f"Resuming from step {int(run.step)} of {workdir}.", flush=True)
        if processes.is_first():
            for name in config.models:
                count = train_state.num_parameters(getattr(run, name).params)
                print(f"{name}: {count:,} parameters", flush=True)
        run = _Loop(config, workdir, checkpoints, run, dataset, validation, stop).train()
        checkpoints.wait()
        last = checkpoints.steps()[-1]
    if stop.received:
        raise Stopped(
            f"{stop.received.name}: stopped and saved at step {last} of {workdir}. Run the same "
            "command again to resume.",
            stop.received,
        )
    return run


def _check_devices(config: Config) -> None:
    devices = jax.device_count()
    if config.batch_size % devices:
        raise ConfigError(
            f"--batch_size={config.batch_size} is not divisible by {devices} devices: make it a "
            f"multiple of {devices}."
        )


def _check_labels(dataset: datasets.Dataset, workdir: pathlib.Path) -> None:
    if not (workdir / "config.json").exists():
        return
    names = config_file.read(workdir)[1]
    if names != dataset.label_names:
        both = [*names, *dataset.label_names]
        shown_as = dict(zip(both, as_shown(both), strict=True))
        shown, now = (
            ", ".join(shown_as[label] for label in labels[:5])
            for labels in (names, dataset.label_names)
        )
        raise ConfigError(
            f"the run in {workdir} was trained on {len(names)} labels ({shown}, ...), but "
            f"{dataset.name} has {len(dataset.label_names)} ({now}, ...): use the dataset that the "
            "run was trained on, or another --workdir."
        )


def _check_files(config: Config, workdir: pathlib.Path) -> None:
    """Checks that a run to resume has been trained on the same examples in the same order."""
    found = reading.find_config(workdir)
    if found is None:
        return
    saved = found[0]
    # Another dataset, length or size is refused by name when the checkpoint is restored.
    same = all(
        getattr(saved, name) == getattr(config, name)
        for name in ("dataset", "num_frames", "image_size")
    )
    # Runs of earlier versions have no fingerprint.
    if same and saved.dataset_fingerprint not in ("", config.dataset_fingerprint):
        raise ConfigError(
            f"the files of {config.dataset} have changed since the run in {workdir} began (so the "
            "order of examples would change): use another --workdir, or restore the files."
        )


def _batches(config: Config, dataset: datasets.Dataset, start: int) -> Iterator[Batch]:
    """Yields this process's share of the batches, from a position in the data, on its devices."""
    batches = datasets.train_batches(
        dataset,
        batch_size=config.batch_size,
        seed=config.seed,
        start=start,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
    return to_devices(batches)


class _Loop:
    """Takes the remaining steps of a run: rolls back, logs, validates and saves where due."""

    def __init__(
        self,
        config: Config,
        workdir: pathlib.Path,
        checkpoints: Checkpoints,
        run: RunState,
        dataset: datasets.Dataset,
        held_out: datasets.Dataset,
        stop: interruption.StopRequest,
    ) -> None:
        self.config, self.checkpoints, self.dataset, self.stop = config, checkpoints, dataset, stop
        self.num_steps = config.num_steps or 0
        self.trainer = Trainer(config, run)
        self.batches = _batches(config, dataset, self.trainer.examples)
        self.non_finite = NonFiniteSteps(config, workdir, dataset, run)
        self.validation = Validation(config, held_out)
        self.watch = Watch(config, to_batch(next(datasets.eval_batches(held_out, batch_size=2))))
        self.reporter = Reporter(config, workdir, run)

    def train(self) -> RunState:
        """Takes all steps, or those until a signal; saves and returns the last state."""
        trainer, config = self.trainer, self.config
        try:
            self._compile()
            self._complete_interrupted_validation()
            first = trainer.step + 1
            while trainer.step < self.num_steps and not self.stop.agreed():
                metrics = trainer.take(next(self.batches))
                self.reporter.bar.update()
                log = self._due(config.log_every) or trainer.step == first
                save = self._due(config.checkpoint_every) or self._due(config.eval_every)
                completed = CompletedStep(trainer.step, trainer.examples, metrics)
                too_many = self.non_finite.add(completed, wait=log or save)
                if too_many is not None:
                    self._roll_back(too_many)
                    continue
                if log:
                    self.reporter.steps_logged(trainer.step, metrics)
                    self.checkpoints.check()
                if save:
                    self._validate_and_save()
            too_many = self.non_finite.settle()
        finally:
            self.reporter.close()
        last = trainer.on_host()
        finite = too_many is None and not self.non_finite.in_a_row
        if finite or trainer.step == self.num_steps:
            self.checkpoints.save(last, restore_point=run_state.is_restore_point(last))
        return last

    def _due(self, every: int) -> bool:
        return self.trainer.step % every == 0 or self.trainer.step == self.num_steps

    def _compile(self) -> None:
        """Compiles the steps of all models at the same time; XLA uses one core for much of each."""

        def compile_step(name: str) -> None:
            with self.reporter.compiling(name):
                self.trainer.compile(name)

        # With several processes the first step compiles.
        if self.trainer.step < self.num_steps and jax.process_count() == 1:
            with concurrent.futures.ThreadPoolExecutor() as threads:
                list(threads.map(compile_step, self.config.models))

    def _complete_interrupted_validation(self) -> None:
        """Validates a step that was saved without its validation, because a signal stopped it."""
        step = self.trainer.step
        missing = step in self.checkpoints.steps() and self.checkpoints.validation(step) is None
        if step > 0 and self._due(self.config.eval_every) and missing:
            self._validate_and_save()

    def _validate_and_save(self) -> None:
        """Validates the last step if that is due, and saves it unless it was non-finite.

        A signal stops the validation. The step is then saved like any other that a signal stops,
        without being a restore point, and the resumed run completes it.
        """
        config, trainer = self.config, self.trainer
        validate = self._due(config.eval_every)
        bits = self.validation(trainer, self.reporter, self.stop.agreed) if validate else None
        if bits is not None and processes.is_first():
            self.reporter.stability(trainer.step, self.watch, trainer.raw_params())
        if self.non_finite.in_a_row:  # whether the parameters are good is not known yet
            return
        complete = bits is not None or not validate
        on_schedule = (
            trainer.step % config.checkpoint_every == 0 or trainer.step % config.eval_every == 0
        )
        if complete and on_schedule:
            trainer.set_restore_point()
        run = trainer.on_host()
        self.checkpoints.save(
            run,
            bits_per_dim=bits,
            restore_point=run_state.is_restore_point(run),
            replace=complete,
        )

    def _roll_back(self, last: CompletedStep) -> None:
        """Restores the last restore point, to continue after the data of the step `last`."""
        self.non_finite.check_restores(last.step, self.trainer.restores)
        run = self.checkpoints.restore(
            state_template(self.config), usable=run_state.is_restore_point
        )
        assert run is not None  # step 0 was saved before the first step
        self.non_finite.rolled_back(last.step, int(run.step), last.examples)
        self.trainer.roll_back(run, last.examples)
        self.batches = _batches(self.config, self.dataset, self.trainer.examples)
        self.reporter.roll_back(run)
