"""The network of a stage: from what is known to the mixture of each pixel of one phase.

Dimensions: B batch, H height and W width of the phase, K components, A anchors.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from flowvid.arrays import CHANNELS
from flowvid.flows.bijectors.mixture_cdf import Mixture
from flowvid.flows.convolution import Conv

Maps = Float[Array, "batch height width features"]
Anchors = Float[Array, "batch height width anchors channels"]

_NUM_SLOPES = CHANNELS * (CHANNELS - 1) // 2
_NARROWEST = -4.0  # of the log-scales, in bins: nearly all mass is in one bin


def num_outputs(components: int) -> int:
    """Returns how many numbers describe the mixture of a pixel."""
    return components * (1 + 2 * CHANNELS) + _NUM_SLOPES


class StageNetwork(nn.Module):
    """A 3x3 convolution, two residual ones, 3x3 and 1x1, and a linear map that starts at zero.

    At the start, component k lies at anchor k mod A, or, where there is none, components are spread
    over all values; their scales are spread around one bin.
    """

    width: int
    components: int
    num_bins: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, maps: Maps, anchors: Sequence[Array]) -> Mixture:
        """Returns the mixtures of pixels [B, H, W].

        Args:
            maps: what is known, [B, H, W, features]; anchors need not be among it.
            anchors: guesses at the pixels, each [B, H, W, 3], in [-1/2, 1/2).
        """
        size = (*maps.shape[:-1], self.components, CHANNELS)
        inputs = jnp.concatenate([maps, *(4 * anchor for anchor in anchors)], axis=-1)
        x = Conv(self.width, (3, 3), dtype=self.dtype)(inputs)
        x += Conv(self.width, (3, 3), dtype=self.dtype)(nn.silu(x))
        x += Conv(self.width, (1, 1), dtype=self.dtype)(nn.silu(x))
        out = nn.Dense(num_outputs(self.components), kernel_init=nn.initializers.zeros)(
            nn.silu(x).astype(maps.dtype)
        )
        ends = np.cumsum([self.components, *2 * [self.components * CHANNELS]])
        logits, means, log_scales, slopes = jnp.split(out, ends, axis=-1)
        starts, scale_starts = self._starts(anchors)
        return Mixture(
            logits=logits,
            means=starts + means.reshape(size) * (self.num_bins / 16),
            log_scales=jnp.clip(
                scale_starts + log_scales.reshape(size), _NARROWEST, math.log(self.num_bins)
            ),
            slopes=jnp.tanh(slopes),
        )

    def _starts(self, anchors: Sequence[Array]) -> tuple[Array, Array]:
        """Returns the components' means and log-scales before training, both in bins."""
        rank = jnp.arange(self.components, dtype=jnp.float32).reshape(1, 1, 1, -1, 1) + 0.5
        if not anchors:
            middles = rank / self.components * self.num_bins
            width = self.num_bins / (2 * self.components)
            return middles, jnp.full_like(rank, math.log(width))
        chosen = [anchors[k % len(anchors)] for k in range(self.components)]
        spread = 2 * rank / self.components - 1 + math.log(self.num_bins / 32)
        return (jnp.stack(chosen, axis=-2) + 0.5) * self.num_bins + 0.5, spread
