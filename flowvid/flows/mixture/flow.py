"""The mixture flow: a multi-scale autoregression over phases, with exact bins for its base.

A level splits its image into the four phases of 2x2 cells (`phases`). Phase 0 is the next level's
image; phases 3, 1 and 2 are transformed in turn by mixture CDFs (`bijectors.mixture_cdf`), whose
parameters a network computes from the phases before them and from the level's context, and are
factored out as standard normal latents. The last, smallest image is transformed given the context
alone. These are RealNVP's spatial couplings and Glow's levels, with the transformation of Flow++.

The density is constant in each bin, so that bits per dimension are those of the discrete image.

Dimensions: B batch, H height, W width, C channels, K context channels, A anchors, L levels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Key, PRNGKeyArray

from flowvid.arrays import Images, Params
from flowvid.flows.bijectors import mixture_cdf
from flowvid.flows.bijectors.mixture_cdf import Mixture
from flowvid.flows.density import Density, gaussian_log_density
from flowvid.flows.mixture import cost, phases
from flowvid.flows.mixture.stage import StageNetwork
from flowvid.flows.protocol import (
    Contexts,
    Flow,
    Latents,
    Shape,
    check_image_size,
    sample_latents,
)


class _Stage(NamedTuple):
    """A phase that is modelled at once: its number, at a level; the last image is of level L."""

    level: int
    phase: int

    @property
    def name(self) -> str:
        """The key of its parameters."""
        return f"level_{self.level}_phase_{self.phase}"


# From a stage, the features that it sees and its anchors, to the pixels of its phase.
_Visit = Callable[[_Stage, Array, list[Array]], Array]


def mixture(
    levels: int,
    components: int,
    width: int,
    num_bins: int,
    anchors: int = 0,
    *,
    reversible: bool = False,
    dtype: DTypeLike | None = None,
) -> Flow:
    """Returns a mixture flow of `levels` levels.

    An image of 32x32x3 with 3 levels has the latents of three phases 16x16x3, three 8x8x3 and three
    4x4x3, and those of the last image, 4x4x3.

    Args:
        levels: L; each halves the resolution.
        components: of each pixel's mixture.
        width: channels inside the stages' networks.
        num_bins: 2^n.
        anchors: how many guesses at the image each context map begins with, the best one first, 3
            channels each, in [-1/2, 1/2); the components of the mixtures start at them.
        reversible: whether backpropagation computes the stages' activations anew.
        dtype: the type of the networks' convolutions; by default that of the parameters.
    """
    # The last image comes first, then the levels from the coarsest to the finest.
    stages = [_Stage(levels, 0)]
    stages += [_Stage(level, p) for level in reversed(range(levels)) for p in phases.ORDER]
    network = StageNetwork(width, components, num_bins, dtype)

    def described(params: Params, maps: Array, anchors: Sequence[Array]) -> Mixture:
        found: Any = network.apply(params, maps, anchors)
        return found

    if reversible:
        described = jax.checkpoint(described)

    def inputs(
        stage: _Stage, contexts: Contexts, known: Mapping[int, Array], size: tuple[int, ...]
    ) -> tuple[Array, list[Array]]:
        """Returns the features [B, H, W, F] that a stage sees, and the anchors of its pixels."""
        context = contexts[min(stage.level, levels - 1)]
        maps, guesses = [], []
        if context is not None:
            cells = phases.split(context)
            own = cells[stage.phase]
            guesses = jnp.split(own[..., : 3 * anchors], anchors, axis=-1) if anchors else []
            # The features of the whole cell, those of the phase itself first.
            maps = [own[..., 3 * anchors :]]
            maps += [cells[p][..., 3 * anchors :] for p in range(4) if p != stage.phase]
            if anchors:  # how far the first, best one is from what is known
                maps += [8 * (values - cells[p][..., :3]) for p, values in known.items()]
        maps += [4 * values for values in known.values()]
        if known:
            guesses = [*guesses, phases.interpolated(known, stage.phase)]
        if not maps:  # the last image of an unconditional flow: only its positions are known
            maps = [_positions(size)]
        return jnp.concatenate(maps, axis=-1), guesses

    def walk(contexts: Contexts, size: tuple[int, ...], visit: _Visit) -> Array:
        """Calls `visit` with each stage and its inputs, and returns the whole image.

        `visit` returns the stage's pixels. What conditions the later stages is the lower edge of
        their bins, so that noise within a bin has no influence.
        """
        batch, height, width, channels = size
        small = (batch, height // 2**levels, width // 2**levels, channels)
        x = visit(stages[0], *inputs(stages[0], contexts, {}, small))
        known, values = {0: _edge(x, num_bins)}, {0: x}
        for stage in stages[1:]:
            found = visit(stage, *inputs(stage, contexts, known, x.shape))
            values[stage.phase], known[stage.phase] = found, _edge(found, num_bins)
            if stage.phase == phases.ORDER[-1]:
                x = phases.merge(values)
                known, values = {0: _edge(x, num_bins)}, {0: x}
        return x

    def targets(x: Images) -> dict[_Stage, Array]:
        """Returns the pixels that each stage models."""
        found: dict[_Stage, Array] = {}
        for level in range(levels):
            split = phases.split(x)
            found |= {_Stage(level, p): split[p] for p in phases.ORDER}
            x = split[0]
        return found | {_Stage(levels, 0): x}

    def init(key: PRNGKeyArray, x: Images, contexts: Contexts) -> Params:
        check_image_size(x.shape[1], x.shape[2], levels)
        keys = dict(zip(stages, jax.random.split(key, len(stages)), strict=True))
        params: dict[str, Params] = {}
        known = targets(x)

        def visit(stage: _Stage, maps: Array, guesses: list[Array]) -> Array:
            params[stage.name] = network.init(keys[stage], maps, guesses)
            return known[stage]

        walk(contexts, x.shape, visit)
        return params

    def mixtures_and_pixels(params: Params, x: Images, contexts: Contexts) -> tuple[Mixture, Array]:
        """Returns the mixtures of all pixels of x, [B, H W, ...], and these pixels [B, H W, C].

        Pixels are ordered by stage. One array of all pixels takes far less time to compile than
        one for each stage.
        """
        check_image_size(x.shape[1], x.shape[2], levels)
        known = targets(x)
        found: list[tuple[Mixture, Array]] = []

        def visit(stage: _Stage, maps: Array, guesses: list[Array]) -> Array:
            found.append((described(params[stage.name], maps, guesses), known[stage]))
            return known[stage]

        walk(contexts, x.shape, visit)
        pixels_in_one = lambda a: a.reshape(a.shape[0], -1, *a.shape[3:])  # noqa: E731
        return jax.tree.map(
            lambda *parts: jnp.concatenate([pixels_in_one(part) for part in parts], axis=1), *found
        )

    def log_prob(params: Params, x: Images, contexts: Contexts) -> Density:
        mixtures, pixels = mixtures_and_pixels(params, x, contexts)
        log_mass = jnp.sum(mixture_cdf.log_mass(mixtures, pixels, num_bins), axis=1)
        # The latents only say how the density divides, so no gradient goes through them.
        z, _ = mixture_cdf.forward(jax.lax.stop_gradient(mixtures), pixels, num_bins)
        log_prior = gaussian_log_density(z)
        log_density = log_mass + x[0].size * jnp.log(float(num_bins))
        return Density(log_density - log_prior, log_prior)

    def encode(params: Params, x: Images, contexts: Contexts) -> Latents:
        mixtures, pixels = mixtures_and_pixels(params, x, contexts)
        z, _ = mixture_cdf.forward(mixtures, pixels, num_bins)
        shapes = {stage: target.shape for stage, target in targets(x).items()}
        ends = np.cumsum([math.prod(shapes[stage][1:3]) for stage in stages])[:-1]
        parts = zip(stages, jnp.split(z, ends, axis=1), strict=True)
        return _by_level({stage: part.reshape(shapes[stage]) for stage, part in parts})

    def _by_level(latents: dict[_Stage, Array]) -> Latents:
        """Returns one array per level, phases in channels; the last image is a further one."""
        found = [
            jnp.concatenate([latents[_Stage(level, p)] for p in phases.ORDER], axis=-1)
            for level in range(levels)
        ]
        return (*found, latents[_Stage(levels, 0)])

    def decode(params: Params, latents: Latents, contexts: Contexts) -> Images:
        return at_temperature(params, latents, contexts, None)

    def at_temperature(
        params: Params, latents: Latents, contexts: Contexts, temperature: Array | None
    ) -> Images:
        by_stage = {_Stage(levels, 0): latents[-1]}
        for level, z in enumerate(latents[:-1]):
            parts = jnp.split(z, len(phases.ORDER), axis=-1)
            by_stage |= {_Stage(level, p): z for p, z in zip(phases.ORDER, parts, strict=True)}
        batch, height, columns, channels = latents[-1].shape

        def visit(stage: _Stage, maps: Array, guesses: list[Array]) -> Array:
            mixtures = described(params[stage.name], maps, guesses)
            if temperature is not None:
                mixtures = mixture_cdf.sharpened(mixtures, temperature)
            return mixture_cdf.inverse(mixtures, by_stage[stage], num_bins)[0]

        size = (batch, height * 2**levels, columns * 2**levels, channels)
        return walk(contexts, size, visit)

    def sample(
        params: Params,
        keys: Key[Array, " batch"],
        shape: Shape,
        contexts: Contexts,
        temperature: Float[Array, ""],
    ) -> Images:
        latents = sample_latents(keys, latent_shapes(shape), jnp.ones(()))
        return at_temperature(params, latents, contexts, temperature)

    def latent_shapes(shape: Shape) -> list[Shape]:
        height, columns, channels = shape
        check_image_size(height, columns, levels)
        sizes = [(height >> level, columns >> level) for level in range(1, levels + 1)]
        return [(*size, 3 * channels) for size in sizes] + [(*sizes[-1], channels)]

    return Flow(
        init=init,
        log_prob=log_prob,
        encode=encode,
        decode=decode,
        sample=sample,
        prepare=lambda params: params,
        latent_shapes=latent_shapes,
        diagnostics=lambda params: {},
        flop=lambda shape, channels: cost.flop(shape, channels, width, components, anchors),
        activation_size=lambda shape, channels: cost.activation_size(
            shape, channels, width, components, anchors, reversible
        ),
    )


def _edge(x: Images, num_bins: int) -> Images:
    """Returns the lower edges of the bins that hold x, to which the gradient is zero."""
    return mixture_cdf.bins_of(x, num_bins) / num_bins - 0.5


def _positions(size: tuple[int, ...]) -> Array:
    """Returns row and column of each pixel from -1 to 1, [B, H, W, 2]."""
    batch, height, width, _ = size
    rows, columns = jnp.meshgrid(
        jnp.linspace(-1, 1, height), jnp.linspace(-1, 1, width), indexing="ij"
    )
    return jnp.broadcast_to(jnp.stack([rows, columns], axis=-1), (batch, height, width, 2))
