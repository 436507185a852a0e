"""The training loop: data in, steps, validation, TensorBoard and checkpoints."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator

import jax

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
from flowvid.training.resilience.non_finite import Done, Incidents
from flowvid.training.stability import Watch
from flowvid.training.trainer import Trainer, initial_state, state_template, to_batch, to_devices
from flowvid.training.validation import Validation
from flowvid.video.frames import Batch


def prepare(config: Config) -> tuple[Config, datasets.Dataset, datasets.Dataset]:
    """The data sets, and the configuration with what only they can tell."""
    load = functools.partial(
        datasets.load,
        config.dataset,
        data_dir=config.data_dir,
        num_frames=config.num_frames,
        image_size=config.image_size,
        max_skipped=config.max_skipped,
    )
    with processes.first_goes_first("data sets"):
        train, validation = load("train"), load("validation")
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


def train(config: Config, workdir: pathlib.Path) -> RunState:
    """Trains a run to its last step, or goes on with the one that `workdir` holds.

    Returns:
        The state at the end, on the host.

    Raises:
        DataError: when the data set is missing or does not fit.
        ConfigError: when `workdir` holds a run of another configuration.
        TrainingError: when training cannot go on, or another process trains in `workdir`.
        Stopped: after SIGTERM or SIGINT, once the state is saved.
    """
    config, dataset, validation = prepare(config)
    _check_devices(config)
    _check_labels(dataset, workdir)
    _check_files(config, workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    with (
        interruption.only_one(workdir),
        interruption.StopRequest() as stop,
        Checkpoints(workdir, config, dataset.label_names) as saved,
    ):
        run = saved.restore(state_template(config))
        if processes.is_first():  # only now: a run of another configuration has been refused
            config_file.write(config, dataset.label_names, workdir)
        if run is None:
            run = initial_state(config, dataset)
            saved.save(run)
        elif processes.is_first():
            print(f"Going on from step {int(run.step)} of {workdir}.", flush=True)
        if processes.is_first():
            for name in config.models:
                count = train_state.num_parameters(getattr(run, name).params)
                print(f"{name}: {count:,} parameters", flush=True)
        run = _loop(config, workdir, saved, run, dataset, validation, stop)
        saved.wait()
        last = saved.steps()[-1]
    if stop.received:
        raise Stopped(
            f"{stop.received.name}: stopped and saved at step {last} of {workdir}. The same "
            "command goes on from there.",
            stop.received,
        )
    return run


def _check_devices(config: Config) -> None:
    devices = jax.device_count()
    if config.batch_size % devices:
        raise ConfigError(
            f"--batch_size={config.batch_size} does not divide over {devices} devices: make it a "
            f"multiple of {devices}."
        )


def _check_labels(dataset: datasets.Dataset, workdir: pathlib.Path) -> None:
    if not (workdir / "config.json").exists():
        return
    names = config_file.read(workdir)[1]
    if names != dataset.label_names:
        shown, now = (", ".join(labels[:5]) for labels in (names, dataset.label_names))
        raise ConfigError(
            f"the run in {workdir} has been trained on {len(names)} labels ({shown}, ...), but "
            f"{dataset.name} has {len(dataset.label_names)} ({now}, ...): give it its own data "
            "set, or use another --workdir."
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
    """This process's share of the batches from a position in the data on, on its devices."""
    batches = datasets.train_batches(
        dataset,
        batch_size=config.batch_size,
        seed=config.seed,
        start=start,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
    return to_devices(batches)


def _loop(
    config: Config,
    workdir: pathlib.Path,
    saved: Checkpoints,
    run: RunState,
    dataset: datasets.Dataset,
    held_out: datasets.Dataset,
    stop: interruption.StopRequest,
) -> RunState:
    start, num_steps = int(run.step), config.num_steps or 0
    trainer = Trainer(config, run)
    batches = _batches(config, dataset, trainer.examples)
    incidents = Incidents(config, workdir, dataset)
    validation = Validation(config, held_out)
    watch = Watch(config, to_batch(next(datasets.eval_batches(held_out, batch_size=2))))
    reporter = Reporter(config, workdir, run)

    def due(every: int) -> bool:
        return trainer.step % every == 0 or trainer.step == num_steps

    def validate() -> None:
        if due(config.eval_every) and trainer.step not in (0, trainer.validated_step):
            bits = validation(trainer, reporter, stop.agreed)
            if bits is not None:
                trainer.validated(bits)
                if processes.is_first():
                    reporter.stability(trainer.step, watch, trainer.raw_params())

    try:
        if trainer.step < num_steps:
            for name in config.models:
                with reporter.compiling(name):
                    trainer.compile(name)
        validate()  # where a signal has stopped it
        while trainer.step < num_steps and not stop.agreed():
            metrics = trainer.take(next(batches))
            reporter.bar.update()
            log = due(config.log_every) or trainer.step == start + 1
            save = due(config.checkpoint_every) or due(config.eval_every)
            done = Done(trainer.step, trainer.examples, metrics)
            too_many = incidents.add(done, wait=log or save)
            if too_many is not None:
                incidents.check(too_many.step, trainer.restores)
                run = _restore_point(saved, config)
                incidents.restored(too_many.step, int(run.step), too_many.examples)
                trainer.go_back_to(run, too_many.examples)
                batches = _batches(config, dataset, trainer.examples)
                reporter.back_to(run)
                continue
            if log:
                reporter.steps_logged(trainer.step, metrics)
                saved.check()
            validate()
            # In the middle of steps that are not finite nobody knows that the parameters are good.
            if save and not incidents.in_a_row:
                if (
                    trainer.step % config.checkpoint_every == 0
                    or trainer.step % config.eval_every == 0
                ):
                    trainer.reached_restore_point()
                saved.save(trainer.on_host())
        too_many = incidents.settle()
    finally:
        reporter.close()
    last = trainer.on_host()
    if trainer.step == num_steps or (too_many is None and not incidents.in_a_row):
        saved.save(last)
    return last


def _restore_point(saved: Checkpoints, config: Config) -> RunState:
    run = saved.restore(state_template(config), usable=run_state.is_restore_point)
    assert run is not None  # step 0 was saved before the first step
    return run
