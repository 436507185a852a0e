"""The state of a run on the devices, and the compiled steps that change it."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax
from flax import jax_utils

from flowvid.arrays import CHANNELS
from flowvid.config.schema import Config
from flowvid.data import datasets
from flowvid.parallel.compilation import compiler_options
from flowvid.parallel.devices import on_devices, replicate, shard, unreplicate
from flowvid.training import objectives, steps, train_state
from flowvid.training.checkpoints.run_state import RunState
from flowvid.video import joint
from flowvid.video.frames import Batch


def gradient_norm_limits(config: Config) -> dict[str, float]:
    """Returns the norm at which the gradient of each model is clipped (paper, section IX)."""
    limits = {"head": config.head_clip, "tail": config.tail_clip}
    return {name: limits[name] for name in config.models}


def optimisers(config: Config) -> dict[str, optax.GradientTransformation]:
    """Returns one optimizer per model of the run, each with its own gradient-norm limit."""
    limits = gradient_norm_limits(config)
    rates = {"head": config.head_learning_rate}
    return {n: train_state.optimizer(config, limit, rates.get(n)) for n, limit in limits.items()}


def train_steps(config: Config) -> dict[str, Any]:
    """Returns the compiled step of each model of the run, (state, batch) -> (state, metrics)."""
    limits = gradient_norm_limits(config)
    bodies = {
        name: functools.partial(
            steps.train_step, config, objectives.LOSSES[name], optimiser, limits[name]
        )
        for name, optimiser in optimisers(config).items()
    }
    return {name: on_devices(body, donate=(0,)) for name, body in bodies.items()}


def initial_state(config: Config, dataset: datasets.Dataset) -> RunState:
    """Returns the state before the first step, on the host.

    ActNorm is set from the first global batch, which every process reads.
    """
    first = next(datasets.train_batches(dataset, batch_size=config.batch_size, seed=config.seed))
    params = initial_params(config, to_batch(first))
    return jax.tree.map(np.asarray, _run_state(_created(config, params)))


def initial_params(config: Config, batch: Batch) -> dict[str, Any]:
    """Returns the parameters of each model, with data-dependent ones set from a batch."""
    # It runs once: without optimisations it is compiled in a quarter of the time.
    options = compiler_options(level=0)
    init = jax.jit(functools.partial(joint.init_params, config), compiler_options=options)
    found: dict[str, Any] = init(batch)
    return found


def state_template(config: Config) -> RunState:
    """Returns the shapes and types of a run's state, without creating one."""
    params = joint.params_template(config)
    return _run_state(jax.eval_shape(functools.partial(_created, config), params))


def _created(config: Config, params: dict[str, Any]) -> dict[str, train_state.ModelState]:
    return {n: train_state.create(config, params[n], opt) for n, opt in optimisers(config).items()}


def _run_state(models: dict[str, Any], **counts: int) -> RunState:
    """Returns the state of a run, where `counts` are those that are not zero."""
    names = ("step", "examples", "restore_step", "restores")
    scalars = {name: np.asarray(counts.get(name, 0), np.int64) for name in names}
    return RunState(models["head"], models.get("tail"), **scalars)


def to_batch(batch: dict[str, Any]) -> Batch:
    """Returns the arrays of a batch of `flowvid.data` that training steps need."""
    return Batch(batch["video"], batch["label"], batch["index"])


def to_devices(batches: Iterator[datasets.ExampleBatch]) -> Iterator[Batch]:
    """Yields batches on this process's devices, two of which are prefetched, for `Trainer.take`."""
    return jax_utils.prefetch_to_device((shard(to_batch(b)) for b in batches), 2)


def _batch_template(config: Config) -> Batch:
    """Returns the shapes and types of this process's share of a batch."""
    devices = jax.local_device_count()
    batch = (devices, config.batch_size // jax.device_count())
    video = (*batch, config.num_frames, *config.image_size, CHANNELS)
    fields: Any = ((video, np.uint8), (batch, np.int32), (batch, np.uint32))
    shapes: Any = (jax.ShapeDtypeStruct(*field) for field in fields)
    return Batch(*shapes)


class Trainer:
    """Takes the training steps of a run.

    Attributes:
        model_states: the `ModelState` of each model, by name, replicated.
        step: steps taken.
        examples: examples read, the position in the data.
        restore_step: step of the checkpoint to roll back to.
        restores: rollbacks since that checkpoint was saved.
    """

    def __init__(self, config: Config, run: RunState) -> None:
        self.config = config
        self._steps = train_steps(config)
        self._load(run)

    def _load(self, run: RunState) -> None:
        self.model_states = {name: replicate(getattr(run, name)) for name in self.config.models}
        self.step, self.examples = int(run.step), int(run.examples)
        self.restore_step, self.restores = int(run.restore_step), int(run.restores)

    def roll_back(self, run: RunState, examples: int) -> None:
        """Loads an earlier state, to continue at a later position in the data."""
        restores = self.restores + 1
        self._load(run)
        self.examples, self.restores = examples, restores

    def compile(self, name: str) -> None:
        """Compiles the step of a model before the first one is taken, or loads it from the cache.

        With several processes `pmap` cannot be compiled ahead of its first call.
        """
        self._steps[name].compile(self.model_states[name], _batch_template(self.config))

    def take(self, shards: Batch) -> dict[str, Any]:
        """Dispatches a step of each model, and returns their metrics without waiting for them."""
        metrics = {}
        for name, step_of in self._steps.items():
            self.model_states[name], metrics[name] = step_of(self.model_states[name], shards)
        self.step += 1
        self.examples += self.config.batch_size
        return metrics

    def set_restore_point(self) -> None:
        """Makes the current step the one to roll back to."""
        self.restore_step, self.restores = self.step, 0

    def on_host(self) -> RunState:
        """Returns the state to save, on the host; waits for the devices."""
        return _run_state(
            unreplicate(self.model_states),
            step=self.step,
            examples=self.examples,
            restore_step=self.restore_step,
            restores=self.restores,
        )

    def raw_params(self) -> dict[str, Any]:
        """Returns the parameters that are trained, by the models' names, on the host."""
        return {name: unreplicate(state.params) for name, state in self.model_states.items()}

    def params(self) -> dict[str, Any]:
        """Returns the parameters to evaluate, by the models' names, replicated."""
        return {name: train_state.eval_params(s) for name, s in self.model_states.items()}
