"""Codes images with a mixture flow: the masses of all bins, in an order in which they are known.

Whoever sends an image and whoever receives it run the same compiled programs on the same numbers,
so that they have the same masses, bit for bit. `log_prob` computes all stages as one program, whose
rounding differs.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowvid.arrays import Images, Params
from flowvid.flows.bijectors import logistic_mixture
from flowvid.flows.bijectors.logistic_mixture import Channel, Mixture
from flowvid.flows.mixture.flow import MixtureFlow
from flowvid.flows.mixture.stage import Stage, by_level, targets_of
from flowvid.flows.protocol import CodeBins, Contexts, Places, Shape


def latent_places(flow: MixtureFlow, shape: Shape) -> Places:
    """Returns, for each latent of `MixtureFlow.encode`, its place in the flattened image."""
    places = by_level(targets_of(_places((1, *shape)), flow.levels), flow.levels)
    return tuple(np.asarray(of_level)[0] for of_level in places)


def _places(shape: tuple[int, int, int, int]) -> Array:
    return jnp.arange(math.prod(shape)).reshape(shape)


def coded(
    flow: MixtureFlow,
    params: Params,
    shape: tuple[int, int, int, int],
    contexts: Contexts,
    code: CodeBins,
) -> Images:
    """Returns the images whose bins `code` gives, as the lower edges of the bins.

    Args:
        flow: the flow.
        params: its parameters.
        shape: of the images, [B, H, W, 3].
        contexts: what is seen.
        code: sends bins, or receives them.
    """
    num_bins = flow.num_bins

    def code_pixels(mixture: Mixture, places: Array) -> Array:
        own = np.asarray(places)
        bins = np.zeros((*own.shape[:-1], 0), np.float32)
        for channel in range(own.shape[-1]):
            masses = _masses(_channel(mixture, bins, num_bins), num_bins)
            masses = np.asarray(masses).reshape(-1, num_bins)
            found = code(masses, own[..., channel].ravel()).reshape(own.shape[:-1])
            bins = np.concatenate([bins, found[..., None].astype(np.float32)], axis=-1)
        return jnp.asarray(bins / num_bins - 0.5)

    places, last = targets_of(_places(shape), flow.levels), flow.last_stage
    seen = flow.seen(last, contexts)

    def visit(stage: Stage, known: Mapping[int, Array]) -> Array:
        mixture = _of_stage(flow, stage, params[stage.name], contexts, dict(known))
        return code_pixels(mixture, places[stage])

    return flow.walk(flow.last.coded(params[last.name], places[last], seen, code_pixels), visit)


# Two programs, because in one XLA computes a pixel's channel anew for each of its bins.


@functools.partial(jax.jit, static_argnums=2)
def _channel(mixture: Mixture, before: Array, num_bins: int) -> tuple[Array, Array, Array]:
    channel = logistic_mixture.channel_given(mixture, before, num_bins)
    return channel.log_weights, channel.means, channel.log_scales


@functools.partial(jax.jit, static_argnums=1)
def _masses(parts: tuple[Array, Array, Array], num_bins: int) -> Array:
    return Channel(*parts, num_bins).masses_of_bins()


@functools.partial(jax.jit, static_argnums=(0, 1))
def _of_stage(
    flow: MixtureFlow, stage: Stage, params: Params, contexts: Contexts, known: dict[int, Array]
) -> Any:
    return flow.network_of(stage).apply(params, *flow.inputs(stage, contexts, known))
