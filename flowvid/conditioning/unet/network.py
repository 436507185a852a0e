"""The U-Net that turns what is seen of the frames before into features of every level.

Dimensions: B batch, H height, W width, C channels, F features, L levels, V vector.
"""

import einops
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from flowvid.flows.bijectors import depth_to_space, space_to_depth
from flowvid.flows.convolution import Conv
from flowvid.flows.scale_and_shift import ScaleAndShift

Maps = Float[Array, "batch height width channels"]
Vector = Float[Array, "batch vector"]


def widths(width: int, levels: int) -> list[int]:
    """Returns the channels at each resolution: they grow by sqrt(2) per level, up to twice."""
    return [min(2 * width, round(width * 2 ** (level / 2))) for level in range(levels)]


class UNet(nn.Module):
    """Residual 3x3 convolutions at resolutions H/2 to H/2^L, down and up again.

    One convolution on the way down, one more on the way up, and two more at the coarsest
    resolution. The features of a level's pixels are computed at half of its resolution, for each
    2x2 cell.

    Attributes:
        width: channels at H/2.
        features: F.
        levels: L.
        read: how many levels' features are wanted, the finest ones; all of them by default.
    """

    width: int
    features: int
    levels: int
    read: int | None = None

    @nn.compact
    def __call__(self, seen: Maps, vector: Vector | None = None) -> list[Array]:
        """Returns features [B, H / 2^l, W / 2^l, F] of levels l = 0, 1, ... of [B, H, W, C].

        A vector, such as that of a label, scales and shifts the features before each residual
        convolution.
        """
        read = self.levels if self.read is None else self.read
        sizes = widths(self.width, self.levels)
        x = Conv(sizes[0], (1, 1))(space_to_depth(seen))
        ways_down = []
        for level, size in enumerate(sizes):
            if level:
                x = Conv(size, (3, 3), strides=(2, 2))(nn.silu(x))
            x = _residual(x, vector)
            ways_down.append(x)
        x = _residual(_residual(x, vector), vector)
        found = [self._read_off(x)] if read == self.levels else []
        for level in reversed(range(self.levels - 1)):
            x = ways_down[level] + _enlarged(Conv(sizes[level], (1, 1))(nn.silu(x)))
            x = _residual(x, vector)
            if level < read:
                found.append(self._read_off(x))
        return found[::-1]

    def _read_off(self, x: Maps) -> Array:
        return depth_to_space(Conv(4 * self.features, (1, 1))(nn.silu(x)))


def _residual(x: Maps, vector: Vector | None) -> Maps:
    """Adds a 3x3 convolution; called inside `UNet.__call__`, whose parameters it makes."""
    y = x if vector is None else ScaleAndShift()(x, vector)
    convolved: Array = Conv(x.shape[-1], (3, 3))(nn.silu(y))
    return x + convolved


def _enlarged(x: Maps) -> Array:
    enlarged: Array = einops.repeat(x, "b h w c -> b (h row) (w col) c", row=2, col=2)
    return enlarged


def flop(unet: UNet, rows: int, columns: int, seen: int) -> float:
    """Returns the floating-point operations of the forward pass of one image of `seen` channels."""
    levels = unet.levels
    sizes, read = widths(unet.width, levels), levels if unet.read is None else unet.read
    total = rows * columns / 4 * 4 * seen * sizes[0]
    for level, size in enumerate(sizes):
        pixels = rows * columns / 4 ** (level + 1)
        convolutions = 2 if level < levels - 1 else 3
        weights = convolutions * 9 * size**2 + size * 4 * unet.features * (level < read)
        if level:
            weights += 9 * sizes[level - 1] * size + size * sizes[level - 1]
        total += pixels * weights
    return 2 * total
