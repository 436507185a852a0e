"""A run's state on the devices and the compiled steps that change it."""

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
from flowvid.parallel.devices import on_devices, replicate, shard, unreplicate
from flowvid.training import objectives, steps, train_state
from flowvid.training.checkpoints.run_state import RunState
from flowvid.video import joint
from flowvid.video.frames import Batch


def clips(config: Config) -> dict[str, float]:
    """The largest gradient norm of each model of the run (paper, section IX)."""
    limits = {"head": config.head_clip, "tail": config.tail_clip}
    return {name: limits[name] for name in config.models}


def optimisers(config: Config) -> dict[str, optax.GradientTransformation]:
    """One a model of the run, each with its own clip."""
    return {name: train_state.optimizer(config, clip) for name, clip in clips(config).items()}


def train_steps(config: Config) -> dict[str, Any]:
    """The compiled steps of the run's models, each (state, batch) -> (state, metrics)."""
    bodies = {
        name: functools.partial(
            steps.train_step, config, objectives.LOSSES[name], optimiser, clips(config)[name]
        )
        for name, optimiser in optimisers(config).items()
    }
    return {name: on_devices(body, donate=(0,)) for name, body in bodies.items()}


def initial_state(config: Config, dataset: datasets.Dataset) -> RunState:
    """The state before the first step, ActNorm set from the first global batch on every host."""
    first = next(datasets.train_batches(dataset, batch_size=config.batch_size, seed=config.seed))
    params = jax.jit(functools.partial(joint.init_params, config))(to_batch(first))
    return jax.tree.map(np.asarray, _run_state(_created(config, params)))


def state_template(config: Config) -> RunState:
    """Shapes and types of a run's state, without making one."""
    params = joint.params_template(config)
    return _run_state(jax.eval_shape(functools.partial(_created, config), params))


def _created(config: Config, params: dict[str, Any]) -> dict[str, train_state.ModelState]:
    return {n: train_state.create(config, params[n], opt) for n, opt in optimisers(config).items()}


def _run_state(models: dict[str, Any], **fields: float) -> RunState:
    """`fields` are those of a `RunState` that are not as before the first step."""
    counts: dict[str, float] = dict.fromkeys(("step", "examples", "restore_step", "restores"), 0)
    counts |= {"validated_step": -1, "best_step": -1, "best_bits_per_dim": np.inf} | fields
    scalars = {
        name: np.asarray(value, np.float64 if name == "best_bits_per_dim" else np.int64)
        for name, value in counts.items()
    }
    return RunState(models["head"], models.get("tail"), **scalars)


def to_batch(batch: dict[str, Any]) -> Batch:
    """What the steps take of a batch of `flowvid.data`."""
    return Batch(batch["video"], batch["label"], batch["index"])


def to_devices(batches: Iterator[datasets.ExampleBatch]) -> Iterator[Batch]:
    """What `Trainer.take` takes; the next two are on their way to this process's devices."""
    return jax_utils.prefetch_to_device((shard(to_batch(b)) for b in batches), 2)


def _batch_template(config: Config) -> Batch:
    """Shapes and types of this process's share of a batch."""
    devices = jax.local_device_count()
    batch = (devices, config.batch_size // jax.device_count())
    video = (*batch, config.num_frames, config.image_size, config.image_size, CHANNELS)
    fields: Any = ((video, np.uint8), (batch, np.int32), (batch, np.uint32))
    shapes: Any = (jax.ShapeDtypeStruct(*field) for field in fields)
    return Batch(*shapes)


class Trainer:
    """Walks a run from step to step; `states` are its models', by name, replicated."""

    def __init__(self, config: Config, run: RunState) -> None:
        self.config = config
        self._steps = dict(train_steps(config))
        self.load(run)

    def load(self, run: RunState) -> None:
        """Puts a state onto the devices."""
        self.states = {name: replicate(getattr(run, name)) for name in self.config.models}
        self.step, self.examples = int(run.step), int(run.examples)
        self.restore_step, self.restores = int(run.restore_step), int(run.restores)
        self.validated_step = int(run.validated_step)
        self.best_step, self.best_bits = int(run.best_step), float(run.best_bits_per_dim)

    def go_back_to(self, run: RunState, examples: int) -> None:
        """Loads an earlier state, but goes on from another position in the data."""
        restores = self.restores + 1
        self.load(run)
        self.examples, self.restores = examples, restores

    def compile(self, name: str) -> None:
        """Compiles the step of a model, or finds it in the cache, before the first one is taken.

        With several processes the first step does it, as `pmap` has it.
        """
        if jax.process_count() > 1:
            return
        lowered = self._steps[name].lower(self.states[name], _batch_template(self.config))
        self._steps[name] = lowered.compile()

    def take(self, shards: Batch) -> dict[str, Any]:
        """Asks the devices for a step of each model; returns their metrics without waiting."""
        metrics = {}
        for name, step_of in self._steps.items():
            self.states[name], metrics[name] = step_of(self.states[name], shards)
        self.step += 1
        self.examples += self.config.batch_size
        return metrics

    def validated(self, bits_per_dim: float) -> None:
        """Notes the validation of the step that was taken last; what is not finite is not best."""
        self.validated_step = self.step
        if bits_per_dim < self.best_bits:
            self.best_step, self.best_bits = self.step, bits_per_dim

    def reached_restore_point(self) -> None:
        """From here on this step is what a run goes back to."""
        self.restore_step, self.restores = self.step, 0

    def on_host(self) -> RunState:
        """What a checkpoint holds; waits for the devices."""
        return _run_state(
            unreplicate(self.states),
            step=self.step,
            examples=self.examples,
            restore_step=self.restore_step,
            restores=self.restores,
            validated_step=self.validated_step,
            best_step=self.best_step,
            best_bits_per_dim=self.best_bits,
        )

    def raw_params(self) -> dict[str, Any]:
        """The parameters that are trained, by the models' names, on the host."""
        return {name: unreplicate(s.params) for name, s in self.states.items()}

    def params(self) -> dict[str, Any]:
        """What is evaluated and sampled from, by the models' names, replicated."""
        return {name: train_state.best_params(s) for name, s in self.states.items()}
