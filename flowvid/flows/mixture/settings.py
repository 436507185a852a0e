"""The settings of a mixture flow, which are flags, and their defaults by preset."""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from flowvid import fields
from flowvid.errors import ConfigError
from flowvid.sizes import Size

_GROUP = "Flow (mixture)"
_SMALL = {
    "components": 5,
    "stage_width": 32,
    "head_stage_width": 96,
    "head_levels": 2,
    "head_width": 128,
    "head_depth": 3,
}
_FOOTAGE_SMALL = _SMALL | {"stage_width": 48, "head_levels": None}
# Temperatures of samples. Errors of single pixels would condition all later frames. In first frames
# they make outlines ragged, because the pixels of a phase do not see each other's.
_LATER_FRAMES, _DETAILS, _LAST_IMAGE = 0.4, 0.6, 1.0


@dataclass(frozen=True)
class MixtureSettings(fields.Settings):
    """A mixture flow in head and tail: mixture CDFs over bins, phase by phase, level by level."""

    components: int = fields.field(_GROUP, "logistics in each pixel's mixture.")
    stage_width: int = fields.field(_GROUP, "channels inside the network of a stage.")
    head_stage_width: int = fields.field(
        _GROUP, "the same in the head, at all levels but the finest."
    )
    head_levels: int | None = fields.field(
        _GROUP,
        "levels of the head's flow, at most --levels. The image below them is drawn pixel by pixel "
        "by two causal transformers, first every second row and column, then the rest. Their work "
        "grows with the square of its pixels; its sides must be divisible by 4. [--levels]",
    )
    head_width: int = fields.field(
        _GROUP, "features of each of them, a multiple of 32 or fewer than 32."
    )
    head_depth: int = fields.field(_GROUP, "blocks of each of them.")

    BINS: ClassVar[bool] = True
    GUIDANCE: ClassVar[dict[str, float] | None] = {"head": 3.0, "tail": 1.0}
    PRESETS: ClassVar[fields.Presets] = {
        "paper": {
            "components": 8,
            "stage_width": 128,
            "head_stage_width": 256,
            "head_levels": None,
            "head_width": 256,
            "head_depth": 8,
        },
        "paper_small": _SMALL,
        "small": _SMALL,
        "footage_small": _FOOTAGE_SMALL,
        "footage": _FOOTAGE_SMALL
        | {"components": 8, "stage_width": 96, "head_stage_width": 192, "head_width": 256},
    }

    def check(self, image_size: Size, levels: int) -> None:
        """Checks that the head's last image, and its phase 0, can be cut into cells of 2x2 pixels.

        Raises:
            ConfigError: naming the flag and what it may be.
        """
        super().check(image_size, levels)
        own = self._levels_of_head(levels)
        if own > levels:
            raise ConfigError(f"--head_levels={own} must be at most --levels={levels}: use fewer.")
        if any(side % 2 ** (own + 2) for side in image_size):
            fits = [n for n in range(1, own) if not any(side % 2 ** (n + 2) for side in image_size)]
            instead = f"use --head_levels={fits[-1]}, or another" if fits else "use another"
            raise ConfigError(
                f"--image_size={image_size} must be divisible by {2 ** (own + 2)} for "
                f"--head_levels={own}: {instead} size."
            )
        if self.head_width > 32 and self.head_width % 32:
            raise ConfigError(
                f"--head_width={self.head_width} must be a multiple of 32, or below 32."
            )

    def _levels_of_head(self, levels: int) -> int:
        return levels if self.head_levels is None else self.head_levels

    def build(self, options: Any) -> Any:
        """Returns the `Flow` of one model, for `flowvid.flows.protocol.BuildOptions`."""
        from flowvid.flows.mixture import coding, cost
        from flowvid.flows.mixture.causal import CausalPixels
        from flowvid.flows.mixture.flow import MixtureFlow
        from flowvid.flows.mixture.last_image import IndependentPixels
        from flowvid.flows.mixture.stage import StageNetwork
        from flowvid.flows.mixture.two_passes import RestOfCells, TwoPasses
        from flowvid.flows.protocol import Flow

        network = StageNetwork(self.stage_width, self.components, options.num_bins, options.dtype)
        of_head = options.model == "head"
        levels = self._levels_of_head(options.levels) if of_head else options.levels
        last: Any = IndependentPixels(network)
        coarse = None
        if of_head:
            coarse = network.clone(width=self.head_stage_width)
            sizes = (self.head_width, self.head_depth, self.components)
            last = TwoPasses(
                CausalPixels(*sizes, options.num_bins, options.dtype),
                RestOfCells(*sizes, options.num_bins, options.dtype),
            )
        flow = MixtureFlow(levels, network, last, options.anchors, options.reversible, coarse)
        return Flow(
            init=flow.init,
            log_prob=flow.log_prob,
            changeable_log_prob=flow.changeable_log_prob,
            log_masses=flow.log_masses,
            encode=flow.encode,
            decode=flow.decode,
            sample=flow.sample,
            coded=functools.partial(coding.coded, flow),
            latent_places=functools.partial(coding.latent_places, flow),
            prepare=lambda params: params,
            latent_shapes=flow.latent_shapes,
            diagnostics=lambda params: {},
            flop=lambda shape, channels: cost.flop(flow, shape, channels),
            activation_size=lambda shape, channels: cost.activation_size(flow, shape, channels),
        )

    def temperatures(self, model: str, levels: int) -> tuple[float, ...]:
        """Returns the temperatures at which samples are drawn by default."""
        if model == "tail":
            return (_LATER_FRAMES,)
        return (*(_DETAILS,) * self._levels_of_head(levels), _LAST_IMAGE)

    def describe(self, model: str, shape: Any, levels: int) -> list[str]:
        """Returns what each level does, and how the last image is drawn, for the model diagram."""
        mixtures = f"mixture CDFs of {self.components} logistics"
        levels, last = (
            (
                self._levels_of_head(levels),
                f"pixel by pixel in two passes, {self.head_depth} blocks of attention each",
            )
            if model == "head"
            else (levels, "its pixels independent of each other")
        )
        height, width, _ = shape
        texts = [
            f"3 phases of {height >> level}x{width >> level}x3\n{mixtures}"
            for level in range(1, levels + 1)
        ]
        return [*texts, f"the last image, {last}\n{mixtures}"]
