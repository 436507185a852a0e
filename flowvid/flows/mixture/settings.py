"""The settings of a mixture flow, which are flags, and their defaults by preset."""

from dataclasses import dataclass
from typing import Any, ClassVar

from flowvid import fields

_GROUP = "Flow (mixture)"
_SMALL = {"components": 5, "stage_width": 48}


@dataclass(frozen=True)
class MixtureSettings(fields.Settings):
    """A mixture flow in head and tail: mixture CDFs over bins, phase by phase, level by level."""

    components: int = fields.field(_GROUP, "logistics in each pixel's mixture.")
    stage_width: int = fields.field(_GROUP, "channels inside the network of a stage.")

    BINS: ClassVar[bool] = True
    # In the tail, errors of single pixels would condition all later frames.
    TEMPERATURES: ClassVar[dict[str, float]] = {"head": 1.0, "tail": 0.4}
    PRESETS: ClassVar[fields.Presets] = {
        "paper": {"components": 8, "stage_width": 128},
        "paper_small": _SMALL,
        "small": _SMALL,
    }

    def build(self, options: Any) -> Any:
        """Returns the `Flow` of one model, for `flowvid.flows.protocol.BuildOptions`."""
        from flowvid.flows.mixture.flow import mixture

        return mixture(
            options.levels,
            self.components,
            self.stage_width,
            options.num_bins,
            options.anchors,
            reversible=options.reversible,
            dtype=options.dtype,
        )

    def describe(self, model: str) -> str:
        """Returns what a level does, for the model diagram."""
        del model
        return f"3 phases, each by mixture CDFs of {self.components} logistics"
