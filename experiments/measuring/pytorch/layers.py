"""What the twins share: parameters and convolutions, from Flax's arrays to PyTorch's tensors.

Images are [B, C, H, W], as PyTorch has them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def tensor(array: Any) -> Tensor:
    """Returns a copy of an array."""
    return torch.from_numpy(np.array(array, np.float32))


def parameter(array: Any) -> nn.Parameter:
    """Returns a copy of an array, to train."""
    return nn.Parameter(tensor(array))


class Conv(nn.Module):
    """A convolution that pads as "SAME" does: with a stride of 2, only behind the last pixels.

    Args:
        params: "kernel" [rows, columns, c_in, c_out], or that of a dense layer, [c_in, c_out], and
            "bias" [c_out], if there is one.
        stride: of rows and columns.
    """

    def __init__(self, params: Mapping[str, Any], stride: int = 1) -> None:
        super().__init__()
        kernel = np.asarray(params["kernel"])
        if kernel.ndim == 2:
            kernel = kernel[None, None]
        self.kernel = parameter(kernel.transpose(3, 2, 0, 1))
        self.bias = parameter(params["bias"]) if "bias" in params else None
        self.stride, self.reach = stride, kernel.shape[0] // 2

    def forward(self, x: Tensor) -> Tensor:
        """Returns images of c_out channels."""
        if self.stride == 1:
            return functional.conv2d(x, self.kernel, self.bias, padding=self.reach)
        behind = functional.pad(x, (0, self.reach, 0, self.reach))
        return functional.conv2d(behind, self.kernel, self.bias, stride=self.stride)


def squeezed(x: Tensor) -> Tensor:
    """Returns 2x2 blocks of pixels as channels, in the order of `bijectors.space_to_depth`."""
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4)
    return cells.reshape(batch, 4 * channels, height // 2, width // 2)


def unsqueezed(x: Tensor) -> Tensor:
    """Returns the images of which `squeezed` returns the blocks."""
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, 2, 2, channels // 4, height, width).permute(0, 3, 4, 1, 5, 2)
    return cells.reshape(batch, channels // 4, 2 * height, 2 * width)
