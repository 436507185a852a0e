"""The training loop: data in, steps, validation, TensorBoard and checkpoints."""

import dataclasses
import functools
import math
import pathlib
from typing import Any

import jax
import numpy as np
import optax
from absl import logging

from flowvid import checkpoints, data, evaluation, interruption, model, state, steps
from flowvid import config as config_lib
from flowvid.checkpoints import RunState
from flowvid.config import Config
from flowvid.errors import ConfigError
from flowvid.reporting import Reporter


def optimisers(config: Config) -> dict[str, optax.GradientTransformation]:
    """One a model of the run, each with its own clip (paper, section IX)."""
    clips = {"head": config.head_clip, "tail": config.tail_clip}
    return {name: state.optimizer(config, clips[name]) for name in config.models}


def train_steps(config: Config) -> dict[str, Any]:
    """The compiled steps of the run's models, each (state, batch) -> (state, metrics)."""
    losses = {"head": steps.head_loss, "tail": steps.tail_loss}
    bodies = {
        name: functools.partial(
            steps.train_step, functools.partial(losses[name], config), optimiser
        )
        for name, optimiser in optimisers(config).items()
    }
    return {name: steps.on_devices(body, donate=(0,)) for name, body in bodies.items()}


def initial_state(config: Config, dataset: data.Dataset) -> RunState:
    """The state before the first step, ActNorm set from the first global batch on every host."""
    first = next(data.train_batches(dataset, batch_size=config.batch_size, seed=config.seed))
    params = jax.jit(functools.partial(steps.init_params, config))(_batch(first))
    created = {n: state.create(params[n], opt) for n, opt in optimisers(config).items()}
    return jax.tree.map(np.asarray, _run_state(created))


def state_template(config: Config) -> RunState:
    """Shapes and types of a run's state, without making one."""
    params = model.params_template(config)
    created = {
        name: jax.eval_shape(functools.partial(state.create, optimiser=optimiser), params[name])
        for name, optimiser in optimisers(config).items()
    }
    return _run_state(created)


def _run_state(models: dict[str, Any], step: int = 0, examples: int = 0) -> RunState:
    counters = (np.asarray(count, np.int64) for count in (step, examples))
    return RunState(models["head"], models.get("tail"), *counters)


def _batch(batch: dict[str, Any]) -> steps.Batch:
    return steps.Batch(batch["video"], batch["label"], batch["index"])


def prepare(config: Config) -> tuple[Config, data.Dataset, data.Dataset]:
    """The data sets, and the configuration with what only they can tell."""
    load = functools.partial(
        data.load,
        config.dataset,
        data_dir=config.data_dir,
        num_frames=config.num_frames,
        image_size=config.image_size,
        max_skipped=config.max_skipped,
    )
    train, validation = load("train"), load("validation")
    num_steps = config.num_steps
    if not config.conditioning.trains:
        num_steps = 0
    elif num_steps is None:  # one pass
        num_steps = max(len(train) // config.batch_size, 1)
    labels = len(train.label_names)
    return dataclasses.replace(config, num_steps=num_steps, num_labels=labels), train, validation


def train(config: Config, workdir: pathlib.Path) -> RunState:
    """Trains a run to its last step, or goes on with the one that `workdir` holds.

    Returns:
        The state at the end, on the host.

    Raises:
        DataError: when the data set is missing or does not fit.
        TrainingError: when training cannot go on, or another process trains in `workdir`.
        Stopped: after SIGTERM or SIGINT, once the state is saved.
    """
    config, dataset, validation = prepare(config)
    _check_devices(config)
    _check_labels(dataset, workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    with (
        interruption.only_one(workdir),
        interruption.StopRequest() as stop,
        checkpoints.manager(workdir) as manager,
    ):
        config_lib.write(config, dataset.label_names, workdir)
        run = checkpoints.restore(manager, state_template(config))
        if run is None:
            run = initial_state(config, dataset)
            checkpoints.save(manager, run)
        else:
            print(f"Going on from step {int(run.step)} of {workdir}.", flush=True)
        for name in config.models:
            count = state.num_parameters(getattr(run, name).params)
            print(f"{name}: {count:,} parameters", flush=True)
        run = _loop(config, workdir, manager, run, dataset, validation, stop)
    if stop.received:  # only now is the last checkpoint written
        raise stop.error(workdir, int(run.step))
    return run


def _check_devices(config: Config) -> None:
    devices = jax.device_count()
    if config.batch_size % devices:
        raise ConfigError(
            f"--batch_size={config.batch_size} does not divide over {devices} devices: make it a "
            f"multiple of {devices}."
        )


def _check_labels(dataset: data.Dataset, workdir: pathlib.Path) -> None:
    if not (workdir / "config.json").exists():
        return
    names = config_lib.read(workdir)[1]
    if names != dataset.label_names:
        shown, now = (", ".join(labels[:5]) for labels in (names, dataset.label_names))
        raise ConfigError(
            f"the run in {workdir} has been trained on {len(names)} labels ({shown}, ...), but "
            f"{dataset.name} has {len(dataset.label_names)} ({now}, ...): give it its own data "
            "set, or use another --workdir."
        )


def _loop(
    config: Config,
    workdir: pathlib.Path,
    manager: Any,
    run: RunState,
    dataset: data.Dataset,
    validation: data.Dataset,
    stop: interruption.StopRequest,
) -> RunState:
    start, num_steps = int(run.step), config.num_steps or 0
    done = start
    step_of = train_steps(config)
    states = {name: steps.replicate(getattr(run, name)) for name in config.models}
    batches = data.train_batches(
        dataset,
        batch_size=config.batch_size,
        seed=config.seed,
        start=int(run.examples),
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
    validate = Validation(config, validation)
    reporter = Reporter(config, workdir, start)
    reporter.show(**dict.fromkeys(config.models, "compiling"))
    try:
        for step in range(start + 1, num_steps + 1):
            if stop.received:
                break
            batch = steps.shard(_batch(next(batches)))
            metrics = {}
            for name in states:
                states[name], metrics[name] = step_of[name](states[name], batch)
            done = step
            reporter.bar.update()
            if step % config.log_every == 0 or step in (start + 1, num_steps):
                reporter.steps_logged(step, metrics)
            if step % config.checkpoint_every == 0 or step == num_steps:
                examples = int(run.examples) + (step - start) * config.batch_size
                checkpoints.save(manager, _on_host(states, step, examples))
            if (step % config.eval_every == 0 or step == num_steps) and not stop.received:
                validate(step, states, reporter)
    finally:
        reporter.close()
    last = _on_host(states, done, int(run.examples) + (done - start) * config.batch_size)
    checkpoints.save(manager, last)
    return last


def _on_host(states: dict[str, Any], step: int, examples: int) -> RunState:
    return _run_state(steps.unreplicate(states), step, examples)


class Validation:
    """Held-out bits per dimension during training, on the first videos of the split."""

    def __init__(self, config: Config, dataset: data.Dataset) -> None:
        self.config, self.dataset = config, dataset
        self.num_videos = min(config.eval_videos, len(dataset))
        self.step = evaluation.evaluator(config, config.metric, config.seed)

    def __call__(self, step: int, states: dict[str, Any], reporter: Reporter) -> None:
        """Scores, writes and shows the cross entropy of each model."""
        params = {name: model_state.params for name, model_state in states.items()}
        scores = evaluation.score(
            self.step, params, self.dataset, self.config.batch_size, self.num_videos, "validating"
        )
        for name in self.config.models:
            mean = float(np.mean(getattr(scores, name)))
            if not math.isfinite(mean):
                logging.warning("The %s's validation is not finite at step %d.", name, step)
            reporter.log(step, f"validation/{name}", {"bits_per_dim": mean})
            reporter.show(**{f"val {name}": f"{mean:.3f}"})
