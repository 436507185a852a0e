"""Builds the flow and the context encoder of a run's head or tail from its configuration."""

import functools
from typing import NamedTuple

from jaxtyping import Array, Float

from flowvid.arrays import CHANNELS
from flowvid.conditioning.protocol import ContextEncoder, EncoderOptions
from flowvid.config.schema import Config
from flowvid.flows.protocol import BuildOptions, Flow, Shape


class Drawing(NamedTuple):
    """How a model draws frames."""

    temperature: Float[Array, "*levels"]  # one, or one per level of the flow
    guidance: Float[Array, ""] | None  # the scale; None where the model is not guided


@functools.lru_cache(maxsize=64)
def flow_of(config: Config, model: str) -> Flow:
    """Returns the flow of "head" or "tail"."""
    options = BuildOptions(
        model=model,
        levels=config.levels,
        data_dependent=config.ablation.trains,
        reversible=config.backprop == "reversible",
        num_bins=2**config.n_bits,
        anchors=encoder_of(config, model).anchors,
        dtype=None if config.compute_dtype == "float32" else config.compute_dtype,
    )
    flow: Flow = config.flow_settings.build(options)
    return flow


@functools.lru_cache(maxsize=64)
def encoder_of(config: Config, model: str) -> ContextEncoder:
    """Returns the context encoder of "head" or "tail"."""
    options = EncoderOptions(
        config.levels, config.image_size, config.num_labels, config.sees(model)
    )
    encoder: ContextEncoder = config.context_settings.build(options)
    return encoder


def frame_shape(config: Config) -> Shape:
    """Returns height, width and channels of a frame."""
    return (*config.image_size, CHANNELS)
