"""The mixture flow: a multi-scale autoregression over phases, with exact bins for its base.

A level splits its image into the four phases of 2x2 cells (`phases`). Phase 0 is the next level's
image; phases 3, 1 and 2 are transformed in turn by mixture CDFs (`bijectors.mixture_cdf`), whose
parameters a network computes from the phases before them and from the level's context, and are
factored out as standard normal latents. The last, smallest image has a model of its own, in which
pixels are independent (`last_image`) or each depends on those before it (`two_passes`). These are
RealNVP's spatial couplings and Glow's levels, with the transformation of Flow++.

What is seen alike at every pixel, such as a label, conditions the last image alone, where it is
decided what an image shows.

The density is constant in each bin, so that bits per dimension are those of the discrete image.

Dimensions: B batch, H height, W width, C channels, K context channels, A anchors, L levels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Key, PRNGKeyArray

from flowvid.arrays import CHANNELS, Images, Params
from flowvid.flows.bijectors import logistic_mixture, mixture_cdf
from flowvid.flows.bijectors.logistic_mixture import Mixture
from flowvid.flows.density import Density, gaussian_log_density
from flowvid.flows.mixture import phases
from flowvid.flows.mixture.drawing import drawing, uniform_numbers
from flowvid.flows.mixture.last_image import Draw, LastImage, Seen
from flowvid.flows.mixture.stage import (
    Stage,
    StageNetwork,
    by_level,
    merged,
    of_levels,
    split_by_stage,
    stages_of,
    targets_of,
)
from flowvid.flows.protocol import (
    Contexts,
    Guidance,
    Latents,
    Shape,
    are_constant_maps,
    check_image_size,
    is_constant_map,
    of_level,
)

# From a stage and what is known of its level, phases by number, to its pixels.
_Visit = Callable[[Stage, Mapping[int, Array]], Array]


@dataclass(frozen=True)
class MixtureFlow:
    """The functions of a mixture flow; `settings` makes a `Flow` of them.

    An image of 32x32x3 with 3 levels has the latents of three phases 16x16x3, three 8x8x3 and three
    4x4x3, and those of the last image, 4x4x3.

    Attributes:
        levels: L; each halves the resolution.
        network, last: of the stages, and of the last image.
        anchors: how many guesses at the image each context map begins with, the best one first, 3
            channels each, in [-1/2, 1/2); the components of the mixtures start at them.
        reversible: whether backpropagation computes the stages' activations anew.
        coarse: the network of the stages of all levels but the finest; by default `network`.
    """

    levels: int
    network: StageNetwork
    last: LastImage
    anchors: int = 0
    reversible: bool = False
    coarse: StageNetwork | None = None

    @property
    def num_bins(self) -> int:
        """2^n, the bins of a channel."""
        return self.network.num_bins

    @property
    def last_stage(self) -> Stage:
        """That of the last image."""
        return Stage(self.levels, 0)

    def network_of(self, stage: Stage) -> StageNetwork:
        """Returns the network of a stage."""
        return self.network if self.coarse is None or not stage.level else self.coarse

    def init(self, key: PRNGKeyArray, x: Images, contexts: Contexts) -> Params:
        """Returns the parameters of each stage by its name."""
        check_image_size(x.shape[1], x.shape[2], self.levels)
        stages = stages_of(self.levels)
        keys = dict(zip(stages, jax.random.split(key, len(stages)), strict=True))
        targets, last = targets_of(x, self.levels), self.last_stage
        params: dict[str, Params] = {
            last.name: self.last.init(keys[last], targets[last], self.seen(last, contexts))
        }

        def visit(stage: Stage, known: Mapping[int, Array]) -> Array:
            inputs = self.inputs(stage, contexts, known)
            params[stage.name] = self.network_of(stage).init(keys[stage], *inputs)
            return targets[stage]

        self.walk(targets[last], visit)
        return params

    def log_prob(self, params: Params, x: Images, contexts: Contexts) -> Density:
        """Returns the log-density of images [B, H, W, C], in nats."""
        mixtures, pixels = self._mixtures_and_pixels(params, x, contexts)
        log_masses = logistic_mixture.log_mass(mixtures, pixels, self.num_bins)
        # The latents only say how the density divides, so no gradient goes through them.
        z, _ = mixture_cdf.forward(jax.lax.stop_gradient(mixtures), pixels, self.num_bins)
        log_prior = gaussian_log_density(z)
        log_density = jnp.sum(log_masses, axis=1) + x[0].size * jnp.log(float(self.num_bins))
        density = Density(log_density - log_prior, log_prior)
        if not are_constant_maps(contexts):
            return density
        in_last = math.prod(x.shape[1:3]) >> 2 * self.levels  # its pixels are the first
        return density._replace(changeable=jnp.sum(log_masses[:, :in_last], axis=1))

    def log_masses(self, params: Params, x: Images, contexts: Contexts) -> Array:
        """Returns the log-mass of each pixel's bins, in nats, [B, H, W]."""
        mixtures, pixels = self._mixtures_and_pixels(params, x, contexts)
        found = logistic_mixture.log_mass(mixtures, pixels, self.num_bins)[..., None]
        return merged(split_by_stage(found, x, self.levels), self.levels)[..., 0]

    def changeable_log_prob(self, params: Params, x: Images, contexts: Contexts) -> Array:
        """Returns that of the last image alone if contexts are constant maps."""
        if not are_constant_maps(contexts):
            return self.log_prob(params, x, contexts).log_prob
        last = self.last_stage
        pixels = targets_of(x, self.levels)[last]
        seen = self.seen(last, contexts)
        mixtures = self.last.mixtures(params[last.name], self._edge(pixels), seen)
        return jnp.sum(logistic_mixture.log_mass(mixtures, pixels, self.num_bins), axis=(1, 2))

    def encode(self, params: Params, x: Images, contexts: Contexts) -> Latents:
        """Returns latents per level, the finest first, and those of the last image."""
        mixtures, pixels = self._mixtures_and_pixels(params, x, contexts)
        z, _ = mixture_cdf.forward(mixtures, pixels, self.num_bins)
        return by_level(split_by_stage(z, x, self.levels), self.levels)

    def decode(self, params: Params, latents: Latents, contexts: Contexts) -> Images:
        """Returns the images of latents."""
        return self._drawn(params, latents, [contexts])

    def sample(
        self,
        params: Params,
        keys: Key[Array, " batch"],
        shape: Shape,
        contexts: Contexts,
        temperature: Float[Array, "*levels"],
        guidance: Guidance | None = None,
    ) -> Images:
        """Draws images at a temperature per level: of weights and scales, not of latents.

        They are made of uniform numbers (`mixture_cdf.drawn`), which takes less time than `decode`.
        """
        numbers = uniform_numbers(keys, self.latent_shapes(shape))
        if guidance is None:
            return self._drawn(params, numbers, [contexts], temperature)
        both = [contexts, guidance.contexts]
        return self._drawn(params, numbers, both, temperature, guidance.scale)

    def latent_shapes(self, shape: Shape) -> list[Shape]:
        """Returns the shapes of latents of images [H, W, C], without the batch."""
        height, columns, channels = shape
        check_image_size(height, columns, self.levels)
        sizes = [(height >> level, columns >> level) for level in range(1, self.levels + 1)]
        return [(*size, 3 * channels) for size in sizes] + [(*sizes[-1], channels)]

    def seen(self, stage: Stage, contexts: Contexts) -> Seen:
        """Returns what a stage sees of the context of its level."""
        context = self._context_of(stage, contexts)
        if context is None:
            return Seen()
        if is_constant_map(context):
            return Seen(vector=context[:, 0, 0] if stage == self.last_stage else None)
        start = CHANNELS * self.anchors
        cells = phases.split(context)
        guesses = jnp.split(cells[stage.phase][..., :start], self.anchors, axis=-1) if start else []
        if context.shape[-1] == start:
            return Seen(guesses)
        return Seen(guesses, jnp.concatenate([cell[..., start:] for cell in cells], axis=-1))

    def inputs(
        self, stage: Stage, contexts: Contexts, known: Mapping[int, Array]
    ) -> tuple[Array, list[Array], Array | None]:
        """Returns what the network of a stage sees, once phases of its level are known."""
        # In the order of the networks' inputs: `jax.jit` sorts the keys of a dict.
        known = {p: known[p] for p in (0, *phases.ORDER) if p in known}
        maps = [4 * values for values in known.values()]
        if self.anchors:  # how far the first, best one is from what is known
            cells = phases.split(self._context_of(stage, contexts)[..., :CHANNELS])
            maps += [8 * (values - cells[p]) for p, values in known.items()]
        seen = self.seen(stage, contexts)
        guesses = [*seen.guesses, phases.interpolated(known, stage.phase)]
        return jnp.concatenate(maps, axis=-1), guesses, seen.features

    def _context_of(self, stage: Stage, contexts: Contexts) -> Any:
        return contexts[min(stage.level, self.levels - 1)]

    def walk(self, last: Images, visit: _Visit) -> Array:
        """Calls `visit` with each stage, from the last image on, and returns the whole image.

        What conditions the later stages is the lower edge of their bins, so that noise within a bin
        has no influence.
        """
        x = last
        known, values = {0: self._edge(x)}, {0: x}
        for stage in stages_of(self.levels)[1:]:
            found = visit(stage, known)
            values[stage.phase], known[stage.phase] = found, self._edge(found)
            if stage.phase == phases.ORDER[-1]:
                x = phases.merge(values)
                known, values = {0: self._edge(x)}, {0: x}
        return x

    def _edge(self, x: Images) -> Images:
        return logistic_mixture.lower_edges(x, self.num_bins)

    def _mixtures_and_pixels(
        self, params: Params, x: Images, contexts: Contexts
    ) -> tuple[Mixture, Array]:
        """Returns the mixtures of all pixels of x, [B, H W, ...], and these pixels [B, H W, C].

        Pixels are ordered by stage. One array of all pixels takes far less time to compile than
        one for each stage.
        """
        check_image_size(x.shape[1], x.shape[2], self.levels)
        kept = jax.checkpoint if self.reversible else lambda function: function
        targets, last = targets_of(x, self.levels), self.last_stage
        of_last = kept(self.last.mixtures)(
            params[last.name], self._edge(targets[last]), self.seen(last, contexts)
        )
        found: list[tuple[Any, Array]] = [(of_last, targets[last])]

        def visit(stage: Stage, known: Mapping[int, Array]) -> Array:
            inputs = self.inputs(stage, contexts, known)
            mixtures = kept(self.network_of(stage).apply)(params[stage.name], *inputs)
            found.append((mixtures, targets[stage]))
            return targets[stage]

        self.walk(targets[last], visit)
        pixels_in_one = lambda a: a.reshape(a.shape[0], -1, *a.shape[3:])  # noqa: E731
        return jax.tree.map(
            lambda *parts: jnp.concatenate([pixels_in_one(part) for part in parts], axis=1), *found
        )

    def _drawn(
        self,
        params: Params,
        numbers: Latents,
        contexts: Sequence[Contexts],
        temperature: Float[Array, "*levels"] | None = None,
        guidance: Float[Array, ""] | None = None,
    ) -> Images:
        """Returns images, at a temperature and with guidance if they are given.

        Args:
            params: of the flow.
            numbers: latents, or uniform ones if a temperature is given.
            contexts: what is seen, and, with guidance, also what is seen without the label.
            temperature: one, or one per level; the last one is also that of coarser levels.
            guidance: scale of the difference that the label makes; 1 is the model as it is.
        """
        by_stage = of_levels(numbers)
        seen_by_stages = contexts[:1] if are_constant_maps(contexts[0]) else contexts

        def draw_at(level: int) -> Draw:
            own = None if temperature is None else of_level(temperature, level)
            return drawing(self.num_bins, own, guidance)

        def visit(stage: Stage, known: Mapping[int, Array]) -> Array:
            mixtures: list[Any] = [
                self.network_of(stage).apply(params[stage.name], *self.inputs(stage, one, known))
                for one in seen_by_stages
            ]
            return draw_at(stage.level)(mixtures, by_stage[stage])

        last = self.last_stage
        seen = [self.seen(last, one) for one in contexts]
        x = self.last.decode(params[last.name], by_stage[last], seen, draw_at(last.level))
        return self.walk(x, visit)
