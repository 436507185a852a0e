"""Bijectors as pure functions with log-determinants; imports nothing else from flowvid."""

from flowvid.flows.bijectors.actnorm import actnorm, normalising_shift_and_log_scale
from flowvid.flows.bijectors.base import Bijector, chain, repeat
from flowvid.flows.bijectors.coupling import coupling
from flowvid.flows.bijectors.invertible_conv import invertible_conv
from flowvid.flows.bijectors.squeeze import depth_to_space, space_to_depth, squeeze

__all__ = [
    "Bijector",
    "actnorm",
    "chain",
    "coupling",
    "depth_to_space",
    "invertible_conv",
    "normalising_shift_and_log_scale",
    "repeat",
    "space_to_depth",
    "squeeze",
]
