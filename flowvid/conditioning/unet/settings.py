"""The settings of the U-Net context encoder, which are flags, and their defaults by preset."""

from dataclasses import dataclass
from typing import Any, ClassVar

from flowvid import fields
from flowvid.conditioning.sees import Sees
from flowvid.errors import ConfigError
from flowvid.sizes import Size

_GROUP = "Context (unet)"
_MOST_LEVELS = 3  # of the networks of layers
_COARSE = 16  # whole frames are matched at about this size; larger ones are averaged down
_PAPER = {"unet_width": 96, "features": 32, "layer_width": 64, "label_width": 32}
_SMALL = {"unet_width": 32, "features": 24, "layer_width": 32, "label_width": 16}


def levels_of_layers(size: Size) -> int:
    """Returns how often the networks of layers halve frames or windows of a size."""
    levels = 1
    while levels < _MOST_LEVELS and not (size.height | size.width) % 2 ** (levels + 1):
        levels += 1
    return levels


def coarseness(size: Size) -> int:
    """Returns how many pixels a side are averaged before frames of a size are matched."""
    return max(1, min(size) // _COARSE)


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
        "footage_small": _SMALL | {"unet_width": 48},
        "footage": _PAPER,
    }

    def check_crop(self, crop: Size, image_size: Size, sees: Sees) -> None:
        """Checks that the networks of layers find in a window what they find in a frame.

        Raises:
            ConfigError: naming the smallest window, or what its sides must be divisible by.
        """
        if not sees.state:
            return
        levels, least = levels_of_layers(image_size), 4 * coarseness(image_size)
        if levels_of_layers(crop) != levels:
            also = "" if levels == _MOST_LEVELS else f" and not both by {2 ** (levels + 1)}"
            raise ConfigError(
                f"--tail_crop={crop} must be divisible by {2**levels}{also}, as "
                f"--image_size={image_size} is: use another one."
            )
        if min(crop) < least:
            raise ConfigError(
                f"--tail_crop={crop} is too small to see motion in frames of {image_size}: use at "
                f"least {least}."
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
