"""What a training step costs: its arithmetic, and the speed of this machine at it."""

import time

import jax
import jax.numpy as jnp

from flowvid.config import Config
from flowvid.glow import CHANNELS


def step_gflop(config: Config) -> dict[str, float]:
    """GFLOP of a training step of {"head", "tail"}: the coupling networks, all else is small.

    A multiply-add counts as two; the backward pass as twice the forward pass.
    """
    tail_frames = config.tail_frames or config.num_frames - 1
    frames = {"head": config.batch_size, "tail": config.batch_size * tail_frames}
    return {name: 3 * frames[name] * flow_gflop(config, name) for name in frames}


def flow_gflop(config: Config, model: str) -> float:
    """GFLOP of one frame's forward pass through the coupling networks of "head" or "tail"."""
    seen = config.conditioning
    if model == "head":
        return 1e-9 * _frame_flop(config, config.head_steps, CHANNELS if seen.labels else 0)
    context = CHANNELS * seen.previous_frame + config.state_size * seen.state
    return 1e-9 * _frame_flop(config, config.tail_steps, context)


def processor_gflop(config: Config) -> float:
    """GFLOP of the context processor's two convolutions at one frame."""
    state = config.state_size
    weights = 9 * (CHANNELS + state) * 2 * state + 9 * 2 * state * state
    return 2e-9 * config.image_size**2 * weights


def pyramid_gflop(config: Config) -> float:
    """GFLOP of the tail's context pyramid at one frame."""
    seen = config.conditioning
    channels = CHANNELS * seen.previous_frame + config.state_size * seen.state
    sizes = [config.image_size // 2**level for level in range(1, config.levels)]
    return 2e-9 * 9 * channels**2 * sum(size**2 for size in sizes)


def _frame_flop(config: Config, steps: int, context: int) -> float:
    """Floating point operations of one frame's forward pass through a Glow."""
    total, size, channels = 0.0, config.image_size, CHANNELS
    for _ in range(config.levels):
        size, channels = size // 2, channels * 4
        half, width = channels // 2, config.width
        out = half * (2 if config.coupling == "affine" else 1)
        weights = 9 * (half + 4 * context) * width + width**2 + 9 * width * out
        total += steps * size**2 * 2 * weights
        channels = half
    return total


def matmul_gflops(n: int = 1024, repeats: int = 5) -> float:
    """Matrix-product speed of this machine in GFLOP/s, the best of a few float32 products."""
    a = jnp.ones((n, n))
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        product(a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * n**3 / min(times) / 1e9
