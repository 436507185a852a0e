"""What one device does in a training step, and what it holds, from a trace: nothing is compiled."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.planning import program
from experiments.planning.program import Work
from flowvid.arrays import CHANNELS
from flowvid.conditioning.unet.hindsight import MOST_STEPS
from flowvid.config.schema import Config
from flowvid.errors import ConfigError
from flowvid.parallel.devices import DEVICES
from flowvid.training import cost, objectives, steps, trainer
from flowvid.video import tail
from flowvid.video.build import encoder_of, flow_of, frame_shape
from flowvid.video.frames import Batch


class Arithmetic(NamedTuple):
    """GFLOP of the matrix products of a step on all devices."""

    total: float
    flow: float  # forward and backward, by the flow's own count
    encoder: float  # the same of the context encoder, once for each frame that the tail models
    other: float  # hindsight, states, contrasts of labels, what is computed again, the optimiser


def local_videos(config: Config, devices: int) -> int:
    """Returns the videos of a step on each device.

    Raises:
        ConfigError: when the batch cannot be divided; the message says what to use.
    """
    if config.batch_size % devices:
        raise ConfigError(
            f"--batch_size={config.batch_size} is not divisible by --devices={devices}: make "
            f"--batch_size a multiple of {devices}."
        )
    return config.batch_size // devices


def arguments(config: Config, name: str, devices: int) -> tuple[Any, Batch]:
    """Returns the shapes of a device's state of "head" or "tail" and of its share of a batch."""
    videos = local_videos(config, devices)
    shape = (videos, config.num_frames, *config.image_size, CHANNELS)
    fields: Any = ((shape, np.uint8), (shape[:1], np.int32), (shape[:1], np.uint32))
    batch: Any = (jax.ShapeDtypeStruct(*field) for field in fields)
    return getattr(trainer.state_template(config), name), Batch(*batch)


def body(config: Config, name: str) -> Any:
    """Returns the training step of "head" or "tail" as a function of a state and a batch."""
    limit = trainer.gradient_norm_limits(config)[name]
    optimiser = trainer.optimisers(config)[name]
    return functools.partial(steps.train_step, config, objectives.LOSSES[name], optimiser, limit)


def work(config: Config, name: str, devices: int, platform: str) -> Work:
    """Returns the work of each device in a training step of "head" or "tail"."""
    state, batch = arguments(config, name, devices)
    traced = jax.make_jaxpr(body(config, name), axis_env=[(DEVICES, devices)])(state, batch)
    return program.count(traced.jaxpr, platform, expected_trips(local_videos(config, devices)))


def expected_trips(videos: int) -> float:
    """Returns how often hindsight draws its own frames, on average: the largest of all clips.

    It is the only loop of a step whose length is drawn: from 1 to `MOST_STEPS` for each clip.
    """
    return MOST_STEPS - sum((own / MOST_STEPS) ** videos for own in range(1, MOST_STEPS))


def frames_of(config: Config, name: str) -> int:
    """Returns how many frames of a clip a step of "head" or "tail" models."""
    if name == "head":
        return config.head_frames_drawn
    return config.tail_frames or config.num_frames - 1


def arithmetic(config: Config, name: str, on_each: Work, devices: int) -> Arithmetic:
    """Returns the matrix products of a step on all devices, and what they are for."""
    total = 1e-9 * devices * (on_each.product_flop + on_each.low_product_flop)
    flow = cost.step_gflop(config)[name]
    pixels = _modelled_share(config, name)
    frames = config.batch_size * frames_of(config, name)
    encoder = 3 * frames * pixels * sum(cost.encoder_gflop(config, name).values())
    return Arithmetic(total, flow, encoder, total - flow - encoder)


def _modelled_share(config: Config, name: str) -> float:
    """Returns the share of a frame's pixels that a step of "head" or "tail" sees."""
    if name == "head" or config.tail_crop is None:
        return 1.0
    whole, crop = config.image_size, config.tail_crop
    return crop.height * crop.width / (whole.height * whole.width)


def clip_share(config: Config, name: str) -> float:
    """Returns what a step of a clip models, of all the pixels that the clip's likelihood has."""
    frames = 1 if name == "head" else config.num_frames - 1
    return frames_of(config, name) / frames * _modelled_share(config, name)


def state_bytes(config: Config) -> dict[str, dict[str, int]]:
    """Returns the bytes of each model's {"parameters", "average", "optimiser"}."""
    template = trainer.state_template(config)
    found = {}
    for name in config.models:
        state = getattr(template, name)
        parts = {
            "parameters": state.params,
            "average": state.average,
            "optimiser": state.opt_state,
        }
        found[name] = {part: _tree_bytes(tree) for part, tree in parts.items()}
    return found


def _tree_bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def activation_bytes(config: Config, name: str, devices: int) -> float:
    """Returns what the backward pass of the flow keeps on a device, by the flow's own count."""
    shape = frame_shape(config)
    if name == "tail" and config.tail_crop is not None:
        shape = (*config.tail_crop, CHANNELS)
    frames = local_videos(config, devices) * frames_of(config, name)
    if name == "tail":
        frames = min(frames, tail.frames_at_once(config, shape))
    channels = encoder_of(config, name).channels
    return 4.0 * frames * flow_of(config, name).activation_size(shape, channels)


def compiled_bytes(config: Config, name: str, devices: int) -> float:
    """Returns the temporary memory of a step of one device, by XLA's analysis on this machine.

    It compiles the step, which takes up to a minute, without running it.
    """
    videos = local_videos(config, devices)
    alone = dataclasses.replace(config, batch_size=videos)
    state, batch = arguments(alone, name, 1)
    one: Any = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), (state, batch))
    program = trainer.train_steps(alone)[name].compile(*one)
    return float(program.memory_analysis().temp_size_in_bytes)
