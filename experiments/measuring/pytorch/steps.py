"""Training steps of flowvid and of their twins in PyTorch, in turns.

The functions are meant for a process of its own, on as many cores as it may use.
"""

import math
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from torch import Tensor

from experiments.measuring import costs
from experiments.measuring.pytorch.glow import Glow
from experiments.measuring.pytorch.layers import tensor
from experiments.measuring.pytorch.mixture import MixtureTail
from flowvid.arrays import CHANNELS
from flowvid.config.schema import Config
from flowvid.training import trainer
from flowvid.video import tail

# What the twins lack: an average of the parameters, Muon, a contrast of labels, and a state.
PLAIN = {
    "variant": "prev_frame",
    "ema_decay": 0.0,
    "muon_learning_rate": None,
    "label_contrast": 0.0,
    "head_frames": "first",
    "head_frames_drawn": 1,
}


def twin_of(config: Config, name: str, params: Any) -> torch.nn.Module:
    """Returns the twin of a head or tail, with these parameters.

    The head of the mixture flow has none.
    """
    on_host = jax.tree.map(np.asarray, params)
    if config.flow == "glow":
        return Glow(on_host)
    assert name == "tail"
    return MixtureTail(on_host, config.flow_settings.components, 2**config.n_bits)


def in_turns(
    name: str, changes: dict[str, Any], modes: list[str], repeats: int
) -> list[dict[str, Any]]:
    """Takes training steps with PyTorch and with each way of differentiating the flow, in turns.

    Args:
        name: of the model.
        changes: the configuration, as in `costs`; what the twins lack is turned off.
        modes: values of --backprop.
        repeats: rounds that are timed, after one that is not.

    Returns:
        rows {"model", "backprop", "seconds", "pytorch_seconds", of each round}.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    configs = {mode: costs.config_of(changes | PLAIN | {"backprop": mode}) for mode in modes}
    config = next(iter(configs.values()))
    twin = twin_of(config, name, costs.drawn_parameters(config)[name])
    takes: dict[str, Callable[[], Any]] = {"pytorch": step_of_twin(config, name, twin)}
    takes |= {mode: costs.step_of(of_mode, name) for mode, of_mode in configs.items()}
    spent: dict[str, list[float]] = {which: [] for which in takes}
    for number in range(repeats + 1):
        for which, take in takes.items():
            seconds = costs.seconds(take, 1)
            spent[which] += seconds * (number > 0)
    row = {"model": name, "pytorch_seconds": spent.pop("pytorch")}
    return [row | {"backprop": mode, "seconds": seconds} for mode, seconds in spent.items()]


def step_of_twin(config: Config, name: str, twin: torch.nn.Module) -> Callable[[], None]:
    """Returns a function that takes a step of Adam with the twin, on random frames."""
    optimiser = torch.optim.Adam(twin.parameters(), lr=config.learning_rate, fused=True)
    limit = trainer.gradient_norm_limits(config)[name]
    count, at_once = config.batch_size, config.batch_size
    if name == "tail":
        count *= config.tail_frames or config.num_frames - 1
        at_once = tail.frames_at_once(config)
    x, previous = random_frames(config, count)
    scale = count * x[0].size * math.log(2)

    def take() -> None:
        optimiser.zero_grad()
        for start in range(0, count, at_once):
            seen = as_seen(name, *(part[start : start + at_once] for part in (x, previous)))
            (-twin(*seen).sum() / scale).backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), limit)
        optimiser.step()

    return take


def random_frames(config: Config, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns frames on the metric's grid, slightly noisy, and those before them."""
    rng, bins = np.random.default_rng(0), 2**config.n_bits
    shape = (count, *config.image_size, CHANNELS)
    grid, before = (rng.integers(0, bins, shape) / bins - 0.5 for _ in range(2))
    noise = rng.uniform(0.1, 0.9, shape) / bins
    return (grid + noise).astype(np.float32), before.astype(np.float32)


def as_seen(name: str, x: np.ndarray, previous: np.ndarray) -> tuple[Tensor, Tensor | None]:
    """Returns what the twin of a head or tail takes of frames and those before them."""
    frames = tensor(x.transpose(0, 3, 1, 2))
    return frames, tensor(previous.transpose(0, 3, 1, 2)) if name == "tail" else None
