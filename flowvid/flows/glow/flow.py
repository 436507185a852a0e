"""Glow: a multi-scale conditional flow, composed of bijectors.

Dimensions: B batch, H height, W width, C channels, K context channels, L levels.
"""

from collections.abc import Sequence
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


def glow(
    levels: int,
    steps: int,
    width: int,
    coupling: str = "additive",
    data_dependent: bool = True,
    *,
    reversible: bool = False,
    dtype: DTypeLike | None = None,
) -> Flow:
    """Returns a Glow of `levels` levels of `steps` steps (Kingma & Dhariwal 2018; section IV).

    A level squeezes, applies its steps, and factors out half of the channels under a Gaussian,
    whose mean and log-scale a zero-initialised 3x3 convolution computes from the other half. The
    last level keeps all channels, under a learned Gaussian per channel. An image of 64x64x3 with 4
    levels has latents 32x32x6, 16x16x12, 8x8x24 and 4x4x96.

    Args:
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
    step = flow_step(width, coupling, data_dependent, dtype)
    flow = bijectors.repeat(step, steps, reversible)

    def squeezed_context(context: Array | None, shape: tuple[int, ...]) -> Array | None:
        """Returns the context of a level whose squeezed images have this shape [B, H, W, C]."""
        if context is None:
            return None
        if is_constant_map(context):
            return jnp.broadcast_to(context, (*shape[:3], context.shape[-1]))
        return bijectors.space_to_depth(context)

    def squeezed(x: Images, context: Array | None) -> tuple[Array, Array | None]:
        x = bijectors.space_to_depth(x)
        return x, squeezed_context(context, x.shape)

    def prior(params: Params, kept: Array) -> Any:
        """Returns mean and log-scale [B, H, W, C] of the factored-out half, given the kept one."""
        read_off: Any = ZeroConv(2 * kept.shape[-1]).apply(params, kept)
        return jnp.split(read_off, 2, axis=-1)

    def last_prior(params: Params) -> tuple[Array, Array]:
        """Returns mean and log-scale [1, 1, 1, C] of the last level."""
        last = params["last_prior"]
        return last["mean"][None, None, None], last["log_sd"][None, None, None]

    def init(key: PRNGKeyArray, x: Images, contexts: Contexts) -> Params:
        check_image_size(x.shape[1], x.shape[2], levels)
        flows, priors = [], []
        for level, context in zip(range(levels), contexts, strict=True):
            flow_key, prior_key = jax.random.split(jax.random.fold_in(key, level))
            x, context = squeezed(x, context)
            flows.append(flow.init(flow_key, x, context))
            x, _ = flow.forward(flows[-1], x, context)
            if level < levels - 1:
                x, _ = jnp.split(x, 2, axis=-1)
                priors.append(ZeroConv(2 * x.shape[-1]).init(prior_key, x))
        last = {"mean": jnp.zeros(x.shape[-1]), "log_sd": jnp.zeros(x.shape[-1])}
        return {"flows": tuple(flows), "priors": tuple(priors), "last_prior": last}

    def forward(params: Params, x: Images, contexts: Contexts) -> tuple[Latents, Density]:
        check_image_size(x.shape[1], x.shape[2], levels)
        latents, log_det, log_prior = [], jnp.zeros(x.shape[0]), jnp.zeros(x.shape[0])
        for level, context in zip(range(levels), contexts, strict=True):
            x, context = squeezed(x, context)
            x, level_log_det = flow.forward(params["flows"][level], x, context)
            if level < levels - 1:
                x, z = jnp.split(x, 2, axis=-1)
                mean, log_sd = prior(params["priors"][level], x)
            else:
                z, (mean, log_sd) = x, last_prior(params)
            log_det += level_log_det
            log_prior += gaussian_log_density(z, mean, log_sd)
            latents.append((z - mean) * jnp.exp(-log_sd))
        return tuple(latents), Density(log_det, log_prior)

    def log_prob(params: Params, x: Images, contexts: Contexts) -> Density:
        return forward(params, x, contexts)[1]

    def encode(params: Params, x: Images, contexts: Contexts) -> Latents:
        return forward(params, x, contexts)[0]

    def decode(params: Params, latents: Latents, contexts: Contexts) -> Images:
        mean, log_sd = last_prior(params)
        x = latents[-1] * jnp.exp(log_sd) + mean
        for level in reversed(range(levels)):
            if level < levels - 1:
                mean, log_sd = prior(params["priors"][level], x)
                x = jnp.concatenate([x, latents[level] * jnp.exp(log_sd) + mean], axis=-1)
            context = squeezed_context(contexts[level], x.shape)
            x, _ = flow.inverse(params["flows"][level], x, context)
            x = bijectors.depth_to_space(x)
        return x

    def latent_shapes(shape: Shape) -> list[Shape]:
        height, width, channels = shape
        check_image_size(height, width, levels)
        shapes = []
        for level in range(levels):
            height, width, channels = height // 2, width // 2, channels * 4
            if level < levels - 1:
                channels //= 2
            shapes.append((height, width, channels))
        return shapes

    def prepare(params: Params) -> Params:
        return {**params, "flows": tuple(map(flow.prepare, params["flows"]))}

    def flop(shape: Shape, context_channels: Sequence[int]) -> float:
        return cost.flop(shape, context_channels, steps, width, coupling)

    def activation_size(shape: Shape, context_channels: Sequence[int]) -> int:
        return cost.activation_size(shape, context_channels, 1 if reversible else steps, width)

    return Flow(
        init=init,
        log_prob=log_prob,
        changeable_log_prob=lambda *of: log_prob(*of).log_prob,
        encode=encode,
        decode=decode,
        sample=sample_by_decoding(decode, latent_shapes),
        log_masses=None,
        coded=None,
        latent_places=None,
        prepare=prepare,
        latent_shapes=latent_shapes,
        diagnostics=diagnostics,
        flop=flop,
        activation_size=activation_size,
    )
