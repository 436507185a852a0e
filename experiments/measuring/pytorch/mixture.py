"""The tail of a mixture flow in PyTorch, with the U-Net over the previous frame.

Images are [B, C, H, W]; mixtures are [B, K, H, W] or [B, K, 3, H, W], with K components.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.measuring.pytorch.layers import Conv, squeezed, unsqueezed
from flowvid.flows.mixture import phases, stage


class MixtureTail(nn.Module):
    """The log-density of frames given the frames before them.

    Args:
        params: of a tail in JAX that sees the previous frame alone.
        components: K, without the one that covers all bins.
        num_bins: 2^n.
    """

    def __init__(self, params: dict[str, Any], components: int, num_bins: int) -> None:
        super().__init__()
        self.unet = _UNet(params["context"]["unet"]["params"])
        self.stages = nn.ModuleDict(
            {
                name: _Stage(of["params"], components, num_bins)
                for name, of in params["flow"].items()
            }
        )
        self.levels = max(int(name.split("_")[1]) for name in params["flow"])
        self.num_bins = num_bins

    def forward(self, x: Tensor, previous: Tensor) -> Tensor:
        """Returns the log-density of frames [B, 3, H, W] in nats, [B]."""
        features = self.unet(4 * previous)
        bins = torch.clamp(torch.floor((x + 0.5) * self.num_bins), 0, self.num_bins - 1)
        of_image, total = bins, x.new_zeros(len(x))
        for level in range(self.levels):
            parts, guesses = (_phases(y) for y in (of_image, _every(previous, level)))
            edges = [y / self.num_bins - 0.5 for y in parts]
            of_level, known = squeezed(features[level]), [0]
            for phase in phases.ORDER:
                maps = [4 * edges[p] for p in known]
                maps += [8 * (edges[p] - guesses[p]) for p in known]
                anchors = [guesses[phase], _interpolated(edges, phase)]
                network = self.stages[f"level_{level}_phase_{phase}"]
                total = total + network(maps, anchors, of_level, parts[phase])
                known.append(phase)
            of_image = parts[0]
        guess = _phases(_every(previous, self.levels - 1))[0]
        network = self.stages[f"level_{self.levels}_phase_0"]
        total = total + network([_positions(of_image)], [guess], of_level, of_image)
        dimensions: int = x[0].numel()
        return total + dimensions * math.log(self.num_bins)


class _Stage(nn.Module):
    def __init__(self, params: dict[str, Any], components: int, num_bins: int) -> None:
        super().__init__()
        names = ("Conv_0", "features", "Conv_1", "Conv_2", "Dense_0")
        self.first, self.of_features, self.second, self.third, self.last = (
            Conv(params[name]) for name in names
        )
        self.components, self.num_bins = components, num_bins

    def forward(
        self, maps: list[Tensor], anchors: list[Tensor], features: Tensor, bins: Tensor
    ) -> Tensor:
        """Returns the log-mass of the bins [B, 3, H, W] of a phase, [B]."""
        x = self.first(torch.cat([*maps, *(4 * anchor for anchor in anchors)], dim=1))
        x = x + self.of_features(features)
        x = x + self.second(functional.silu(x))
        x = x + self.third(functional.silu(x))
        return self._log_mass(self.last(functional.silu(x)), anchors, bins)

    def _log_mass(self, outputs: Tensor, anchors: Sequence[Tensor], bins: Tensor) -> Tensor:
        count, num_bins = self.components, self.num_bins
        logits, means, log_scales, slopes = outputs.split([count, 3 * count, 3 * count, 3], dim=1)
        size = (len(outputs), count, 3, *outputs.shape[2:])
        chosen = torch.stack([anchors[k % len(anchors)] for k in range(count)], dim=1)
        means = (chosen + 0.5) * num_bins + 0.5 + means.reshape(size) * (num_bins / 16)
        rank = (torch.arange(count) + 0.5).reshape(-1, 1, 1, 1)
        starts = 2 * rank / count - 1 + math.log(num_bins / 32)
        log_scales = (starts + log_scales.reshape(size)).clamp(stage.NARROWEST, math.log(num_bins))

        rare = torch.logsumexp(logits, dim=1, keepdim=True) + stage.RARE
        like = torch.zeros_like(means[:, :1])
        logits = torch.cat([logits, rare], dim=1)
        means = torch.cat([means, like + num_bins / 2], dim=1)
        log_scales = torch.cat([log_scales, like + math.log(num_bins / 4)], dim=1)

        log_weights = torch.log_softmax(logits, dim=1)
        slope_of = iter(torch.tanh(slopes).unbind(dim=1))
        errors: list[Tensor] = []
        total = torch.zeros_like(bins[:, 0])
        for channel in range(3):
            moved = means[:, :, channel]
            for error in errors:
                moved = moved + next(slope_of)[:, None] * error
            at = bins[:, channel, None]
            masses = log_weights + self._log_masses(at, moved, log_scales[:, :, channel])
            of_bin = torch.logsumexp(masses, dim=1)
            total = total + of_bin
            log_weights = masses - of_bin[:, None]
            errors.append(at + 0.5 - means[:, :, channel])
        return total.sum(dim=(1, 2))

    def _log_masses(self, bins: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
        """Returns the log of each component's mass in a bin."""
        inverse = torch.exp(-log_scales)
        lower = (bins - means) * inverse
        below, above = functional.logsigmoid(lower + inverse), functional.logsigmoid(-lower)
        inside = below + above + torch.log(-torch.expm1(-inverse))
        first, last = bins < 0.5, bins > self.num_bins - 1.5
        return torch.where(first, below, torch.where(last, above, inside))


class _UNet(nn.Module):
    """The layers of `flowvid.conditioning.unet.network.UNet`, all of whose levels are read."""

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__()
        self.levels = (len(params) + 1) // 5
        # Flax numbers the layers as they are called.
        strided = {2 * level for level in range(1, self.levels)}
        layers = [
            Conv(params[f"Conv_{index}"], stride=2 if index in strided else 1)
            for index in range(len(params))
        ]
        self.layers = nn.ModuleList(layers)

    def forward(self, seen: Tensor) -> list[Tensor]:
        """Returns the features of each level, the finest first."""
        layers = iter(self.layers)

        def residual(x: Tensor) -> Tensor:
            found: Tensor = x + next(layers)(functional.silu(x))
            return found

        def read_off(x: Tensor) -> Tensor:
            return unsqueezed(next(layers)(functional.silu(x)))

        x = next(layers)(squeezed(seen))
        ways_down = []
        for level in range(self.levels):
            x = residual(next(layers)(functional.silu(x)) if level else x)
            ways_down.append(x)
        x = residual(residual(x))
        found = [read_off(x)]
        for level in reversed(range(self.levels - 1)):
            narrow = next(layers)(functional.silu(x))
            x = residual(ways_down[level] + functional.interpolate(narrow, scale_factor=2))
            found.append(read_off(x))
        return found[::-1]


def _phases(x: Tensor) -> list[Tensor]:
    return [x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]


def _every(x: Tensor, level: int) -> Tensor:
    return x[:, :, :: 2**level, :: 2**level]


def _interpolated(edges: list[Tensor], phase: int) -> Tensor:
    """Returns the mean of the four known pixels that are nearest to each pixel of a phase."""
    if phase == 3:
        nearest = [_moved(edges[0], row, column) for row in (0, 1) for column in (0, 1)]
    elif phase == 1:
        nearest = [edges[0], _moved(edges[0], 0, 1), _moved(edges[3], -1, 0), edges[3]]
    else:
        nearest = [edges[0], _moved(edges[0], 1, 0), _moved(edges[3], 0, -1), edges[3]]
    return torch.stack(nearest).mean(dim=0)


def _moved(x: Tensor, rows: int, columns: int) -> Tensor:
    height, width = x.shape[2:]
    padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    return padded[:, :, 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]


def _positions(x: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    sides = (np.linspace(-1, 1, size, dtype=np.float32) for size in (height, width))
    grid = torch.stack(torch.meshgrid(*map(torch.from_numpy, sides), indexing="ij"))
    return grid.expand(batch, -1, -1, -1)
