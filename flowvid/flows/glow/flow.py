"""Glow: a multi-scale conditional flow, composed of bijectors.

Dimensions: B batch, H height, W width, C channels, K context channels, L levels.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import PRNGKeyArray

from flowvid.arrays import Images, Params
from flowvid.flows import bijectors
from flowvid.flows.bijectors.base import Bijector
from flowvid.flows.coupling_network import CouplingNetwork, ZeroConv
from flowvid.flows.density import Density, gaussian_log_density
from flowvid.flows.glow import cost
from flowvid.flows.glow.diagnostics import diagnostics
from flowvid.flows.protocol import (
    Contexts,
    Flow,
    Latents,
    Shape,
    check_image_size,
    is_constant_map,
    sample_by_decoding,
)


def flow_step(
    width: int, coupling: str, data_dependent: bool, dtype: DTypeLike | None = None
) -> Bijector:
    """Returns a step of flow: ActNorm, invertible 1x1 convolution, coupling (section IV)."""
    return bijectors.chain(
        bijectors.actnorm(data_dependent),
        bijectors.invertible_conv(),
        bijectors.coupling(lambda features: CouplingNetwork(width, features, dtype), coupling),
    )


@dataclass(frozen=True)
class Glow:
    """The functions of a Glow of L levels of K steps (Kingma & Dhariwal 2018; section IV).

    A level squeezes, applies its steps, and factors out half of the channels under a Gaussian,
    whose mean and log-scale a zero-initialised 3x3 convolution computes from the other half. The
    last level keeps all channels, under a learned Gaussian per channel. An image of 64x64x3 with 4
    levels has latents 32x32x6, 16x16x12, 8x8x24 and 4x4x96.

    Attributes:
        levels: L; each halves the resolution.
        steps: K, steps of flow per level.
        width: channels inside the coupling networks.
        coupling: "additive" (the paper's) or "affine".
        data_dependent: whether `init` sets ActNorm from the batch; otherwise it is the identity.
        reversible: whether backpropagation rebuilds the steps' inputs, and keeps only the levels'
            boundaries (`bijectors.repeat`).
        dtype: the type of the coupling networks' convolutions; by default that of the parameters.
            Log-dets and all sums stay float32. In bfloat16 a single step is inverted up to float32
            rounding. Over many steps, rounding errors may move an input to the next bfloat16 value:
            16 steps near initialisation have an error of 1e-4.
    """

    levels: int
    steps: int
    width: int
    coupling: str = "additive"
    data_dependent: bool = True
    reversible: bool = False
    dtype: DTypeLike | None = None

    def as_flow(self) -> Flow:
        """Returns these functions as `Flow` describes them."""
        return Flow(
            init=self.init,
            log_prob=self.log_prob,
            changeable_log_prob=lambda *of: self.log_prob(*of).log_prob,
            encode=self.encode,
            decode=self.decode,
            sample=sample_by_decoding(self.decode, self.latent_shapes),
            log_masses=None,
            coded=None,
            latent_places=None,
            prepare=self.prepare,
            latent_shapes=self.latent_shapes,
            diagnostics=diagnostics,
            flop=self.flop,
            activation_size=self.activation_size,
        )

    @functools.cached_property
    def flow(self) -> Bijector:
        """The steps of a level."""
        step = flow_step(self.width, self.coupling, self.data_dependent, self.dtype)
        return bijectors.repeat(step, self.steps, self.reversible)

    def init(self, key: PRNGKeyArray, x: Images, contexts: Contexts) -> Params:
        """Returns the parameters of each level's steps and prior."""
        check_image_size(x.shape[1], x.shape[2], self.levels)
        flows, priors = [], []
        for level, context in zip(range(self.levels), contexts, strict=True):
            flow_key, prior_key = jax.random.split(jax.random.fold_in(key, level))
            x, context = _squeezed(x, context)
            flows.append(self.flow.init(flow_key, x, context))
            x, _ = self.flow.forward(flows[-1], x, context)
            if level < self.levels - 1:
                x, _ = jnp.split(x, 2, axis=-1)
                priors.append(ZeroConv(2 * x.shape[-1]).init(prior_key, x))
        last = {"mean": jnp.zeros(x.shape[-1]), "log_sd": jnp.zeros(x.shape[-1])}
        return {"flows": tuple(flows), "priors": tuple(priors), "last_prior": last}

    def log_prob(self, params: Params, x: Images, contexts: Contexts) -> Density:
        """Returns the log-density of images [B, H, W, C], in nats."""
        return self._forward(params, x, contexts)[1]

    def encode(self, params: Params, x: Images, contexts: Contexts) -> Latents:
        """Returns latents per level, the finest first."""
        return self._forward(params, x, contexts)[0]

    def decode(self, params: Params, latents: Latents, contexts: Contexts) -> Images:
        """Returns the images of latents."""
        mean, log_sd = _last_prior(params)
        x = latents[-1] * jnp.exp(log_sd) + mean
        for level in reversed(range(self.levels)):
            if level < self.levels - 1:
                mean, log_sd = _prior(params["priors"][level], x)
                x = jnp.concatenate([x, latents[level] * jnp.exp(log_sd) + mean], axis=-1)
            context = _squeezed_context(contexts[level], x.shape)
            x, _ = self.flow.inverse(params["flows"][level], x, context)
            x = bijectors.depth_to_space(x)
        return x

    def prepare(self, params: Params) -> Params:
        """Returns parameters with the matrices of the 1x1 convolutions and their inverses."""
        return {**params, "flows": tuple(map(self.flow.prepare, params["flows"]))}

    def latent_shapes(self, shape: Shape) -> list[Shape]:
        """Returns the shapes of latents of images [H, W, C], without the batch."""
        height, width, channels = shape
        check_image_size(height, width, self.levels)
        shapes = []
        for level in range(self.levels):
            height, width, channels = height // 2, width // 2, channels * 4
            if level < self.levels - 1:
                channels //= 2
            shapes.append((height, width, channels))
        return shapes

    def flop(self, shape: Shape, context_channels: Sequence[int]) -> float:
        """Returns the operations of one image's forward pass."""
        return cost.flop(shape, context_channels, self.steps, self.width, self.coupling)

    def activation_size(self, shape: Shape, context_channels: Sequence[int]) -> int:
        """Returns the numbers that the backward pass of one image keeps."""
        kept = 1 if self.reversible else self.steps
        return cost.activation_size(shape, context_channels, kept, self.width)

    def _forward(self, params: Params, x: Images, contexts: Contexts) -> tuple[Latents, Density]:
        check_image_size(x.shape[1], x.shape[2], self.levels)
        latents, log_det, log_prior = [], jnp.zeros(x.shape[0]), jnp.zeros(x.shape[0])
        for level, context in zip(range(self.levels), contexts, strict=True):
            x, context = _squeezed(x, context)
            x, level_log_det = self.flow.forward(params["flows"][level], x, context)
            if level < self.levels - 1:
                x, z = jnp.split(x, 2, axis=-1)
                mean, log_sd = _prior(params["priors"][level], x)
            else:
                z, (mean, log_sd) = x, _last_prior(params)
            log_det += level_log_det
            log_prior += gaussian_log_density(z, mean, log_sd)
            latents.append((z - mean) * jnp.exp(-log_sd))
        return tuple(latents), Density(log_det, log_prior)


def _squeezed(x: Images, context: Array | None) -> tuple[Array, Array | None]:
    x = bijectors.space_to_depth(x)
    return x, _squeezed_context(context, x.shape)


def _squeezed_context(context: Array | None, shape: tuple[int, ...]) -> Array | None:
    """Returns the context of a level whose squeezed images have this shape [B, H, W, C]."""
    if context is None:
        return None
    if is_constant_map(context):
        return jnp.broadcast_to(context, (*shape[:3], context.shape[-1]))
    return bijectors.space_to_depth(context)


def _prior(params: Params, kept: Array) -> Any:
    """Returns mean and log-scale [B, H, W, C] of the factored-out half, given the kept one."""
    read_off: Any = ZeroConv(2 * kept.shape[-1]).apply(params, kept)
    return jnp.split(read_off, 2, axis=-1)


def _last_prior(params: Params) -> tuple[Array, Array]:
    """Returns mean and log-scale [1, 1, 1, C] of the last level."""
    last = params["last_prior"]
    return last["mean"][None, None, None], last["log_sd"][None, None, None]
