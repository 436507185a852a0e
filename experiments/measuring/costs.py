"""Measures what the paper's models cost: each function is meant for a process of its own.

A configuration is given as `changes`: {"preset", and the fields that differ from it}. Times are
measured on random videos, since the cost of a step does not depend on their content.
"""

import functools
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowvid import random_keys
from flowvid.config.making import preset_config
from flowvid.config.schema import Config
from flowvid.data import datasets
from flowvid.gan import config as gan_config
from flowvid.gan import steps as gan_steps
from flowvid.parallel.devices import replicate, shard
from flowvid.training import cost, objectives, steps, train_state, trainer
from flowvid.video import joint, sampling
from flowvid.video.build import Drawing
from flowvid.video.frames import Batch

NUM_LABELS = 8
_NOISE = 0.01  # standard deviation of drawn parameters


def config_of(changes: dict[str, Any]) -> Config:
    """Returns the configuration of a run on a dataset of 8 labels."""
    return preset_config(**{"num_steps": 1000, "num_labels": NUM_LABELS} | changes)


def random_batch(config: Config, num_videos: int) -> Batch:
    """Returns a batch of random videos."""
    rng = np.random.default_rng(0)
    shape = (num_videos, config.num_frames, *config.image_size, 3)
    videos = rng.integers(0, 256, shape, dtype=np.uint8)
    index = np.arange(num_videos, dtype=np.uint32)
    return Batch(jnp.asarray(videos), jnp.asarray(index % NUM_LABELS, int), jnp.asarray(index))


def _perturbed(path: jax.tree_util.KeyPath, leaf: Array) -> Array:
    """Returns a parameter with noise, so that no convolution is zero and could be skipped."""
    if train_state.is_constant(path):
        return leaf
    noise = np.random.default_rng(0).normal(size=leaf.shape).astype(np.float32)
    return leaf + 0.003 * noise


def parameters(config: Config) -> dict[str, Any]:
    """Returns parameters that are initialised from a few random frames and then perturbed."""
    drawn = trainer.initial_params(config, random_batch(config, 2))
    return jax.tree_util.tree_map_with_path(_perturbed, drawn)


def drawn_parameters(config: Config) -> dict[str, Any]:
    """Returns small random parameters; initialising them takes longer to compile than a step."""
    rng = np.random.default_rng(0)

    def draw(path: jax.tree_util.KeyPath, leaf: Any) -> Any:
        if not train_state.is_constant(path):
            return jnp.asarray(_NOISE * rng.normal(size=leaf.shape), leaf.dtype)
        last: Any = path[-1]
        of_permutation = last.key == "permutation"  # of Glow; its others are signs
        return jnp.broadcast_to(jnp.eye(leaf.shape[-1]) if of_permutation else 1.0, leaf.shape)

    found: dict[str, Any] = jax.tree_util.tree_map_with_path(draw, joint.params_template(config))
    return found


def peak_rss_mb() -> float:
    """Returns the largest resident memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def seconds(work: Any, repeats: int) -> list[float]:
    """Returns the seconds of each call of `work`, which returns the arrays to wait for."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - start)
    return times


def training_step(name: str, changes: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Measures a training step of "head" or "tail": compile time, run time and memory.

    Args:
        name: of the model.
        changes: the configuration.
        repeats: timed runs; with several, one more comes before them and is not counted.

    Returns:
        {"compile_s", "temp_mb", "gflop"}, and with repeats {"seconds" of each run, "peak_rss_mb",
        "matmul_gflops": this machine's speed}.
    """
    config = config_of(changes)
    template = getattr(trainer.state_template(config), name)
    replicated = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), template)
    batch = shard(random_batch(config, config.batch_size))
    start = time.perf_counter()
    step = trainer.train_steps(config)[name]
    program = step.compile(replicated, batch)
    figures: dict[str, Any] = {
        "compile_s": time.perf_counter() - start,
        "temp_mb": _temp_mb(program),
        "gflop": cost.step_gflop(config)[name],
    }
    if not repeats:
        return figures
    take = _taking(config, name, parameters(config)[name], step, batch)
    figures["seconds"] = seconds(take, repeats + 1)[1:] if repeats > 1 else seconds(take, 1)
    figures["peak_rss_mb"] = peak_rss_mb()
    figures["matmul_gflops"] = cost.matmul_gflops()
    return figures


def step_of(config: Config, name: str) -> Callable[[], Any]:
    """Returns a function that takes a training step, which is compiled, on random videos."""
    params = drawn_parameters(config)[name]
    batch = shard(random_batch(config, config.batch_size))
    return _taking(config, name, params, trainer.train_steps(config)[name], batch)


def _taking(config: Config, name: str, params: Any, step: Any, batch: Any) -> Callable[[], Any]:
    """Returns a function that takes a step from where the last one has ended, compiled."""
    optimiser = trainer.optimisers(config)[name]
    current = replicate(train_state.create(config, params, optimiser))
    program = step.compile(current, batch)

    def take() -> Any:
        nonlocal current
        current, metrics = program(current, batch)
        return current, metrics

    return take


def gradient_memory(name: str, changes: dict[str, Any]) -> dict[str, float]:
    """Returns the temporary memory of a loss and its gradients in MB, by XLA's analysis.

    Nothing is run. Parameters, gradients and the optimiser's state are not included.
    """
    config = config_of(changes)
    videos = (config.batch_size, config.num_frames, *config.image_size, 3)
    fields: Any = ((videos, np.uint8), (videos[:1], np.int32), (videos[:1], np.uint32))
    shapes: Any = (jax.ShapeDtypeStruct(*field) for field in fields)
    batch = Batch(*shapes)

    def loss(params: Any, batch: Batch) -> Any:
        return objectives.LOSSES[name](config, params, batch, 0)

    gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))
    program = gradients.lower(joint.params_template(config)[name], batch).compile()
    return {"temp_mb": _temp_mb(program)}


def gan_memory(name: str, changes: dict[str, Any]) -> dict[str, float]:
    """Returns the same of the GAN's "generator" or "discriminator", whose steps hold all frames.

    The discriminator's loss is that of the paper's objective.
    """
    config = gan_config.preset_config(**{"num_labels": NUM_LABELS} | changes)
    template = gan_steps.template(config)
    size, batch = config.image_size, config.batch_size
    videos = jax.ShapeDtypeStruct((batch, config.num_frames, size, size, 3), np.float32)
    labels = jax.ShapeDtypeStruct((batch,), np.int32)

    def of_generator(params: Any, judge: Any, labels: Any) -> Any:
        keys = jax.random.split(jax.random.key(0), batch)
        return gan_steps.generator_loss(config, params, judge, keys, labels)

    generator, discriminator = template.generator.params, template.discriminator.params
    losses: dict[str, tuple[Any, Any]] = {
        "generator": (of_generator, (generator, discriminator, labels)),
        "discriminator": (
            functools.partial(gan_steps.discriminator_loss, config),
            (discriminator, template.vectors, videos, videos, labels),
        ),
    }
    loss, arguments = losses[name]
    gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return {"temp_mb": _temp_mb(gradients.lower(*arguments).compile())}


def _temp_mb(compiled: Any) -> float:
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def sampling_speed(changes: dict[str, Any], num_videos: int, repeats: int) -> dict[str, Any]:
    """Times sampling and, in turn, the likelihood of as many frames; the first pair compiles."""
    config = config_of(changes)
    params = parameters(config)
    batch = random_batch(config, num_videos)
    keys = random_keys.video_keys(0, num_videos)

    def generate() -> Any:
        how = sampling.Drawings(*2 * (Drawing(jnp.float32(1), None),))
        return sampling.collected(
            sampling.frames(config, params, keys, batch.label, how, config.num_frames)
        )

    forward = jax.jit(functools.partial(joint.eval_step, config, config.metric, 0))
    pairs = [
        (seconds(generate, 1)[0], seconds(lambda: forward(params, batch), 1)[0])
        for _ in range(repeats + 1)
    ]
    return {
        "videos": num_videos,
        "frames": num_videos * config.num_frames,
        "first_call_s": pairs[0][0],
        "sampling_s": [pair[0] for pair in pairs[1:]],
        "forward_s": [pair[1] for pair in pairs[1:]],
        "peak_rss_mb": peak_rss_mb(),
    }


def loader(changes: dict[str, Any], num_batches: int) -> dict[str, float]:
    """Measures how fast batches of the configuration's dataset reach the devices."""
    config = config_of(changes)
    dataset = datasets.load(config.dataset, "train", **datasets.options_of(config))
    batches = trainer.to_devices(
        datasets.train_batches(dataset, batch_size=config.batch_size, seed=config.seed)
    )
    next(batches)
    spent = seconds(lambda: [next(batches).video for _ in range(num_batches)][-1], 1)[0]
    return {"videos_per_s": num_batches * config.batch_size / spent}


def parts(changes: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Returns parameters and forward GFLOP per frame of each part (paper, section IX)."""
    config = config_of(changes)
    template = joint.params_template(config)
    of_models = {name: steps.parts(params) for name, params in template.items()}
    gflop = {
        name: {"flow": cost.flow_gflop(config, name)} | cost.encoder_gflop(config, name)
        for name in ("head", "tail")
    }
    return {
        f"{name} {part}": {
            "parameters": train_state.num_parameters(of_models[name][part]),
            "gflop": count,
        }
        for name, of_parts in gflop.items()
        for part, count in of_parts.items()
        if part in of_models[name]
    }
