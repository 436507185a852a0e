"""What a training step costs: its arithmetic, and the speed of this machine at it."""

import time

import jax
import jax.numpy as jnp

from flowvid.arrays import CHANNELS
from flowvid.config.schema import Config
from flowvid.flows.protocol import Shape
from flowvid.video.build import encoder_of, flow_of, frame_shape


def step_gflop(config: Config) -> dict[str, float]:
    """Returns the GFLOP of a training step of {"head", "tail"}, by the flows' own count.

    A multiply-add counts as two, and the backward pass as twice the forward pass.
    """
    tail_frames = config.tail_frames or config.num_frames - 1
    of_clip = {"head": config.head_frames_drawn, "tail": tail_frames}
    frames = {name: config.batch_size * count for name, count in of_clip.items()}
    shapes = dict.fromkeys(frames, frame_shape(config))
    if config.tail_crop is not None:
        shapes["tail"] = (*config.tail_crop, CHANNELS)
    return {name: 3 * frames[name] * flow_gflop(config, name, shapes[name]) for name in frames}


def flow_gflop(config: Config, model: str, shape: Shape | None = None) -> float:
    """Returns the GFLOP of the forward pass of one frame through the flow of "head" or "tail".

    Args:
        config: the run's.
        model: "head" or "tail".
        shape: of what is modelled; by default a whole frame.
    """
    channels = encoder_of(config, model).channels
    return 1e-9 * flow_of(config, model).flop(shape or frame_shape(config), channels)


def encoder_gflop(config: Config, model: str) -> dict[str, float]:
    """Returns the GFLOP per frame of each part of the context encoder of "head" or "tail"."""
    flop = encoder_of(config, model).flop(frame_shape(config))
    return {part: 1e-9 * count for part, count in flop.items()}


def matmul_gflops(n: int = 1024, repeats: int = 5) -> float:
    """Returns the speed of matrix products here in GFLOP/s, the best of a few in float32."""
    a = jnp.ones((n, n))
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        product(a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * n**3 / min(times) / 1e9
