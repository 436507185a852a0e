"""The paper's Glow in PyTorch, with or without a context pyramid over the previous frame.

Images are [B, C, H, W].
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.measuring.pytorch.layers import Conv, parameter, squeezed, tensor


class Glow(nn.Module):
    """The log-density of frames, given the frames before them in a tail.

    Args:
        params: of a head or a tail in JAX, whose couplings are additive.
    """

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__()
        flow, pyramid = params["flow"], params["context"].get("pyramid")
        self.levels = nn.ModuleList(map(_steps_of, flow["flows"]))
        self.priors = nn.ModuleList(map(_ZeroConv, flow["priors"]))
        self.mean, self.log_sd = (parameter(flow["last_prior"][n]) for n in ("mean", "log_sd"))
        convolutions = {} if pyramid is None else pyramid["params"]
        self.pyramid = nn.ModuleList(Conv(of, stride=2) for of in convolutions.values())

    def forward(self, x: Tensor, previous: Tensor | None) -> Tensor:
        """Returns the log-density of frames [B, 3, H, W] in nats, [B]."""
        context = previous
        total = x.new_zeros(len(x))
        for level, steps in enumerate(self.levels):
            if level and context is not None:
                below = context if level == 1 else functional.relu(context)
                context = self.pyramid[level - 1](below)
            x = squeezed(x)
            seen = None if context is None else squeezed(context)
            for step in steps:
                x, log_det = step(x, seen)
                total = total + log_det
            if level < len(self.priors):
                x, z = x.chunk(2, dim=1)
                mean, log_sd = self.priors[level](x).chunk(2, dim=1)
            else:
                z, mean, log_sd = x, self.mean[:, None, None], self.log_sd[:, None, None]
            total = total + _log_normal(z, mean, log_sd)
        return total


class _Step(nn.Module):
    """ActNorm, an invertible 1x1 convolution by its LU form, and an additive coupling."""

    def __init__(self, params: Any) -> None:
        super().__init__()
        actnorm, convolution, network = params
        self.shift, self.log_scale = parameter(actnorm["shift"]), parameter(actnorm["log_scale"])
        self.lower_upper = parameter(convolution["lower_upper"])
        constants = {name: tensor(value) for name, value in convolution["constants"].items()}
        self.register_buffer("permutation", constants["permutation"])
        self.register_buffer("sign", constants["sign"])
        self.network = _Network(network["params"])

    def forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns images and the log-determinant, a scalar."""
        x = (x + self.shift[:, None, None]) * torch.exp(self.log_scale)[:, None, None]
        log_s = self.lower_upper.diagonal()
        lower = self.lower_upper.tril(-1) + torch.eye(len(log_s))
        upper = self.lower_upper.triu(1) + torch.diag(self.sign * torch.exp(log_s))
        x = functional.conv2d(x, (self.permutation @ lower @ upper)[:, :, None, None])
        a, b = x.chunk(2, dim=1)
        seen = a if context is None else torch.cat([a, context], dim=1)
        log_det = x.shape[2] * x.shape[3] * (self.log_scale.sum() + log_s.sum())
        return torch.cat([a, b + self.network(seen)], dim=1), log_det


class _Network(nn.Module):
    """Convolutions 3x3, 1x1 and 3x3 with ReLUs between them, and the scale of `ZeroConv`."""

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__()
        # The last kernel is kept as its mirror image, [rows, columns, c_out, c_in].
        kernels = [
            params["kernel_0"],
            params["kernel_1"],
            np.asarray(params["kernel_2"])[::-1, ::-1].swapaxes(2, 3),
        ]
        first, middle, last = (
            Conv({"kernel": kernel, "bias": params[f"bias_{index}"]})
            for index, kernel in enumerate(kernels)
        )
        self.layers = nn.Sequential(first, nn.ReLU(), middle, nn.ReLU(), last)
        self.scale = parameter(params["scale"])

    def forward(self, x: Tensor) -> Tensor:
        """Returns the shift of the coupling."""
        found: Tensor = self.layers(x) * torch.exp(3 * self.scale)[:, None, None]
        return found


class _ZeroConv(nn.Module):
    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__()
        self.convolution = Conv(params["params"]["Conv_0"])
        self.scale = parameter(params["params"]["scale"])

    def forward(self, x: Tensor) -> Tensor:
        """Returns a 3x3 convolution, times exp(3 * scale)."""
        found: Tensor = self.convolution(x) * torch.exp(3 * self.scale)[:, None, None]
        return found


def _steps_of(stacked: Any) -> nn.ModuleList:
    """Returns the steps of a level, whose parameters are stacked."""

    def entry(tree: Any, index: int) -> Any:
        if isinstance(tree, dict):
            return {name: entry(part, index) for name, part in tree.items()}
        return np.asarray(tree)[index]

    count = len(stacked[0]["shift"])
    return nn.ModuleList(_Step([entry(part, index) for part in stacked]) for index in range(count))


def _log_normal(x: Tensor, mean: Tensor, log_sd: Tensor) -> Tensor:
    z = (x - mean) * torch.exp(-log_sd)
    return (-0.5 * (math.log(2 * math.pi) + z**2) - log_sd).sum(dim=(1, 2, 3))
