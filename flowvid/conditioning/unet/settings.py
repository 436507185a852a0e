"""The settings of the U-Net context encoder, which are flags, and their defaults by preset."""

from dataclasses import dataclass
from typing import Any, ClassVar

from flowvid import fields
from flowvid.conditioning.sees import Sees
from flowvid.errors import ConfigError
from flowvid.sizes import Size

_GROUP = "Context (unet)"
_LAYERS_HALVE = 8  # 2^3, for three levels (`layers`)
_PAPER = {"unet_width": 96, "features": 32, "layer_width": 64, "label_width": 32}
_SMALL = {"unet_width": 48, "features": 24, "layer_width": 32, "label_width": 16}


@dataclass(frozen=True)
class UnetSettings(fields.Settings):
    """A U-Net over the last frames, a memory of each pixel, and the layers that these show."""

    unet_width: int = fields.field(
        _GROUP, "channels at half of the frame's resolution; coarser ones have up to twice as many."
    )
    features: int = fields.field(_GROUP, "features of each pixel that a level of the flow sees.")
    layer_width: int = fields.field(
        _GROUP, "channels of the networks that part what moves from the ground, at half resolution."
    )
    label_width: int = fields.field(_GROUP, "numbers in the learned vector of a label.")

    DROPS_LABELS: ClassVar[bool] = True
    PRESETS: ClassVar[fields.Presets] = {
        "paper": _PAPER,
        "paper_small": _SMALL,
        "small": _SMALL,
        "footage_small": _SMALL,
        "footage": _PAPER,
    }

    def check_crop(self, crop: Size, sees: Sees) -> None:
        """Checks that the networks of layers have as many levels in a window as in a frame.

        Raises:
            ConfigError: naming what its sides must be divisible by.
        """
        if sees.state and any(side % _LAYERS_HALVE for side in crop):
            raise ConfigError(
                f"--tail_crop={crop} must be divisible by {_LAYERS_HALVE}: use multiples of it."
            )

    def build(self, options: Any) -> Any:
        """Returns the `ContextEncoder` for `flowvid.conditioning.protocol.EncoderOptions`."""
        from flowvid.conditioning.unet.encoder import unet_encoder

        return unet_encoder(self, options)

    def describe(self, sees: Sees) -> list[str]:
        """Returns a line for each thing that is seen, for the model diagram."""
        lines = ["label, a learned vector"] * sees.label
        lines += ["previous frame, 3 channels"] * sees.previous
        return lines + ["memory, 3 older frames, layers"] * sees.state
