"""A stage and its network: from what is known to the mixture of each pixel of one phase.

Dimensions: B batch, H height and W width of the phase, K components, A anchors.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from flowvid.arrays import CHANNELS
from flowvid.flows.bijectors.logistic_mixture import Mixture
from flowvid.flows.convolution import Conv
from flowvid.flows.mixture import phases

Maps = Float[Array, "batch height width maps"]
Features = Float[Array, "batch height width features"]

_NUM_SLOPES = CHANNELS * (CHANNELS - 1) // 2
NARROWEST = -4.0  # of the log-scales, in bins: nearly all mass is in one bin
RARE = -12.0  # log-weight of the component that covers all bins


def num_outputs(components: int) -> int:
    """Returns how many numbers describe the mixture of a pixel."""
    return components * (1 + 2 * CHANNELS) + _NUM_SLOPES


class Stage(NamedTuple):
    """A phase that is modelled at once: its number, at a level; the last image is of level L."""

    level: int
    phase: int

    @property
    def name(self) -> str:
        """The key of its parameters."""
        return f"level_{self.level}_phase_{self.phase}"


def stages_of(levels: int) -> list[Stage]:
    """Returns all stages in the order in which they are drawn, the last image first."""
    of_levels = [Stage(level, p) for level in reversed(range(levels)) for p in phases.ORDER]
    return [Stage(levels, 0), *of_levels]


def targets_of(x: Shaped[Array, "batch height width channels"], levels: int) -> dict[Stage, Array]:
    """Returns the pixels of an image [B, H, W, C] that each stage models."""
    found: dict[Stage, Array] = {}
    for level in range(levels):
        split = phases.split(x)
        found |= {Stage(level, p): split[p] for p in phases.ORDER}
        x = split[0]
    return found | {Stage(levels, 0): x}


def merged(parts: Mapping[Stage, Array], levels: int) -> Array:
    """Returns the image of which `targets_of` returns the parts."""
    x = parts[Stage(levels, 0)]
    for level in reversed(range(levels)):
        x = phases.merge({0: x} | {p: parts[Stage(level, p)] for p in phases.ORDER})
    return x


def split_by_stage(values: Array, x: Array, levels: int) -> dict[Stage, Array]:
    """Returns the parts [B, h, w, ...] of values [B, H W, ...] with pixels ordered by stage."""
    shapes = {stage: part.shape[1:3] for stage, part in targets_of(x, levels).items()}
    stages = stages_of(levels)
    ends = np.cumsum([math.prod(shapes[stage]) for stage in stages])[:-1]
    parts = zip(stages, jnp.split(values, ends, axis=1), strict=True)
    return {s: part.reshape(len(x), *shapes[s], *values.shape[2:]) for s, part in parts}


def by_level(parts: Mapping[Stage, Array], levels: int) -> tuple[Array, ...]:
    """Returns the parts of an image as latents: one array per level, and that of the last image.

    An array holds the phases of its level, side by side in the order in which they are drawn.
    """
    found = [
        jnp.concatenate([parts[Stage(level, p)] for p in phases.ORDER], axis=-1)
        for level in range(levels)
    ]
    return (*found, parts[Stage(levels, 0)])


def of_levels(latents: Sequence[Array]) -> dict[Stage, Array]:
    """Returns the parts of an image of which `by_level` returns the latents."""
    found = {Stage(len(latents) - 1, 0): latents[-1]}
    for level, values in enumerate(latents[:-1]):
        parts = jnp.split(values, len(phases.ORDER), axis=-1)
        found |= {Stage(level, p): part for p, part in zip(phases.ORDER, parts, strict=True)}
    return found


class StageNetwork(nn.Module):
    """A 3x3 convolution, two residual ones, 3x3 and 1x1, and a linear map that starts at zero.

    Features of the context are read at each pixel: whoever computed them has looked around already.
    """

    width: int
    components: int
    num_bins: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, maps: Maps, anchors: Sequence[Array], features: Features | None = None
    ) -> Mixture:
        """Returns the mixtures of pixels [B, H, W].

        Args:
            maps: what is known of pixels, [B, H, W, maps]; anchors need not be among it.
            anchors: guesses at the pixels, each [B, H, W, 3], in [-1/2, 1/2).
            features: of the context at the pixels, [B, H, W, features].
        """
        inputs = jnp.concatenate([maps, *(4 * anchor for anchor in anchors)], axis=-1)
        x = Conv(self.width, (3, 3), dtype=self.dtype)(inputs)
        if features is not None:
            of_features = Conv(
                self.width, (1, 1), use_bias=False, dtype=self.dtype, name="features"
            )
            x += of_features(features)
        for size in ((3, 3), (1, 1)):
            x += Conv(self.width, size, dtype=self.dtype)(nn.silu(x))
        out = nn.Dense(num_outputs(self.components), kernel_init=nn.initializers.zeros)(
            nn.silu(x).astype(inputs.dtype)
        )
        return as_mixture(out, anchors, self.components, self.num_bins)


def as_mixture(
    outputs: Float[Array, "*pixels outputs"],
    anchors: Sequence[Array],
    components: int,
    num_bins: int,
) -> Mixture:
    """Returns the mixtures that a network's outputs describe.

    Where the outputs are zero, as before training, component k lies at anchor k mod A, or, where
    there is none, components are spread over all values; their scales are spread around one bin.
    A further component covers all bins.

    Args:
        outputs: `num_outputs` numbers per pixel.
        anchors: guesses at the pixels, each [*pixels, 3], in [-1/2, 1/2).
        components: K.
        num_bins: 2^n.
    """
    # Pixels come last until all is computed, because XLA vectorises over the last axis.
    of_pixels = jnp.moveaxis(outputs, -1, 0)
    size = (components, CHANNELS, *of_pixels.shape[1:])
    ends = np.cumsum([components, *2 * [components * CHANNELS]])
    logits, means, log_scales, slopes = jnp.split(of_pixels, ends)
    rank = jnp.arange(components, dtype=jnp.float32).reshape(-1, *(1,) * (len(size) - 1)) + 0.5
    if anchors:
        chosen = [jnp.moveaxis(anchors[k % len(anchors)], -1, 0) for k in range(components)]
        starts = (jnp.stack(chosen) + 0.5) * num_bins + 0.5
        scale_starts = 2 * rank / components - 1 + math.log(num_bins / 32)
    else:
        starts = rank / components * num_bins
        scale_starts = jnp.full_like(rank, math.log(num_bins / (2 * components)))
    means = starts + means.reshape(size) * (num_bins / 16)
    log_scales = scale_starts + log_scales.reshape(size)
    log_scales = jnp.clip(log_scales, NARROWEST, math.log(num_bins))
    logits, means, log_scales = _with_all_bins(logits, means, log_scales, num_bins)
    return Mixture(
        logits=jnp.moveaxis(logits, 0, -1),
        means=jnp.moveaxis(means, (0, 1), (-2, -1)),
        log_scales=jnp.moveaxis(log_scales, (0, 1), (-2, -1)),
        slopes=jnp.moveaxis(jnp.tanh(slopes), 0, -1),
    )


def _with_all_bins(
    logits: Array, means: Array, log_scales: Array, num_bins: int
) -> tuple[Array, Array, Array]:
    """Adds a component of small, constant weight that covers all bins; components come first.

    Without it, a pixel far from all narrow components costs thousands of bits, and one such clip
    ruins what was learned. With it, no pixel costs much more than 50 bits; all others pay 1e-5.
    """
    rare = jax.nn.logsumexp(logits, axis=0, keepdims=True) + RARE
    like = jnp.zeros_like(means[:1])
    return (
        jnp.concatenate([logits, rare]),
        jnp.concatenate([means, like + num_bins / 2]),
        jnp.concatenate([log_scales, like + math.log(num_bins / 4)]),
    )
