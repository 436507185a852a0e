"""The settings of a Glow, which are flags, and their defaults by preset."""

from dataclasses import dataclass
from typing import Any, ClassVar

from flowvid import fields

_PAPER = {"head_steps": 32, "tail_steps": 1, "width": 512, "coupling": "additive"}
_SMALL = {"head_steps": 6, "tail_steps": 4, "width": 96, "coupling": "additive"}


@dataclass(frozen=True)
class GlowSettings(fields.Settings):
    """A Glow in head and tail: steps of ActNorm, invertible 1x1 convolution and coupling."""

    head_steps: int = fields.field("Flow (glow)", "steps of flow per level in the head.")
    tail_steps: int = fields.field("Flow (glow)", "steps of flow per level in the tail.")
    width: int = fields.field("Flow (glow)", "channels inside the coupling networks.")
    coupling: str = fields.field("Flow (glow)", "kind of coupling.", choices=("additive", "affine"))

    BINS: ClassVar[bool] = False
    GUIDANCE: ClassVar[dict[str, float] | None] = None  # its numbers have no masses to multiply
    PRESETS: ClassVar[fields.Presets] = {
        "paper": _PAPER,
        "paper_small": _SMALL,
        "small": _SMALL,
        "footage_small": _SMALL,
        "footage": _PAPER,
    }

    def steps(self, model: str) -> int:
        """Returns the steps of flow per level of "head" or "tail"."""
        return self.head_steps if model == "head" else self.tail_steps

    def temperatures(self, model: str, levels: int) -> tuple[float]:
        """Returns the temperature of samples: that of the model itself."""
        del model, levels
        return (1.0,)

    def build(self, options: Any) -> Any:
        """Returns the `Flow` of one model, for `flowvid.flows.protocol.BuildOptions`."""
        from flowvid.flows.glow.flow import Glow

        return Glow(
            options.levels,
            self.steps(options.model),
            self.width,
            self.coupling,
            data_dependent=options.data_dependent,
            reversible=options.reversible,
            dtype=options.dtype,
        ).as_flow()

    def describe(self, model: str, shape: Any, levels: int) -> list[str]:
        """Returns what each level does, for the model diagram."""
        steps = f"{self.steps(model)} x (ActNorm, 1x1 conv, {self.coupling} coupling)"
        height, width, channels = shape
        texts = []
        for level in range(1, levels + 1):
            # A level passes half of its 4C channels on.
            squeezed = f"{height >> level}x{width >> level}x{channels * 2 ** (level + 1)}"
            texts.append(f"squeeze to {squeezed}\n{steps}")
        return texts
