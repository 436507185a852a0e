"""What the stages of a level share: their first convolutions of the features of its context.

All stages of a level see the features of the same cells. A convolution is linear, so one for all of
them, computed before any pixel is drawn, adds its part to the first convolution of each. To
sample, this takes less time than a convolution of all that a stage sees: features are put together
to windows once, and few other channels are left.

Dimensions: B batch, H height, W width, C channels, h = H / 2, w = W / 2, F features, A anchors.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from flowvid.arrays import CHANNELS, Params
from flowvid.flows.bijectors import space_to_depth
from flowvid.flows.convolution import conv_general_dilated
from flowvid.flows.mixture import phases
from flowvid.flows.mixture.stage import Stage
from flowvid.flows.protocol import Contexts

_SHARED = "shared"  # key of the kernels of features, one per level; None where it has no features
_NHWC_HWIO = ("NHWC", "HWIO", "NHWC")
_FIRST = "Conv_0"  # of a `StageNetwork`


def divided(params: Params, levels: int, anchors: int) -> Params:
    """Returns a flow's parameters, the kernels that see features apart and put together by level.

    Parameters that are divided already are returned as they are.
    """
    if _SHARED in params:
        return params
    found, shared = dict(params), []
    for level in range(levels):
        of_level = []
        for known, phase in enumerate(phases.ORDER, start=1):
            name = Stage(level, phase).name
            layers = params[name]["params"]
            kernel = layers[_FIRST]["kernel"]
            num_others = CHANNELS * (known * (2 if anchors else 1) + anchors + 1)
            features, others = jnp.split(kernel, [kernel.shape[2] - num_others], axis=2)
            of_level.append(_by_cell(features, phase))
            first = layers[_FIRST] | {"kernel": others}
            found[name] = {"params": layers | {_FIRST: first}}
        kernels = jnp.concatenate(of_level, axis=-1)
        shared.append(kernels if kernels.size else None)
    return found | {_SHARED: tuple(shared)}


def _by_cell(kernel: Array, phase: int) -> Array:
    """Returns a kernel of four cells' features, the phase's own first, with cells in order."""
    own_first = [phase, *(p for p in range(4) if p != phase)]
    parts = dict(zip(own_first, jnp.split(kernel, 4, axis=2), strict=True))
    return jnp.concatenate([parts[p] for p in range(4)], axis=2)


def convolved(
    params: Params, contexts: Contexts, anchors: int, dtype: DTypeLike | None
) -> dict[Stage, Array]:
    """Returns what features add to the first convolutions of stages, [B, h, w, width] each.

    Args:
        params: those that `divided` returns.
        contexts: one map [B, H, W, 3 A + F] per level.
        anchors: A.
        dtype: of the networks' products; None for that of the parameters.
    """
    found: dict[Stage, Array] = {}
    for level, kernel in enumerate(params[_SHARED]):
        if kernel is None:
            continue
        context = contexts[level]
        assert context is not None  # otherwise its networks see no features
        features = space_to_depth(context[..., CHANNELS * anchors :])
        features, kernel = (x.astype(dtype or x.dtype) for x in (features, kernel))
        of_all = conv_general_dilated(
            features, kernel, (1, 1), "SAME", dimension_numbers=_NHWC_HWIO
        )
        parts = jnp.split(of_all, len(phases.ORDER), axis=-1)
        found |= {Stage(level, p): part for p, part in zip(phases.ORDER, parts, strict=True)}
    return found


def without_features(contexts: Contexts, anchors: int) -> Sequence[Array | None]:
    """Returns the anchors of each level's context alone."""
    return [None if one is None else one[..., : CHANNELS * anchors] for one in contexts]
