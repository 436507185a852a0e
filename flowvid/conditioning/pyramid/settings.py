"""The settings of the paper's context encoder, which are flags, and their defaults by preset."""

from dataclasses import dataclass
from typing import Any, ClassVar

from flowvid import fields
from flowvid.conditioning.sees import Sees
from flowvid.errors import ConfigError
from flowvid.sizes import Size

_GROUP = "Context (pyramid)"
_PAPER = {"state_size": 16, "label_size": None, "label_scale": 1.0}
_SMALL = {"state_size": 8, "label_size": None, "label_scale": 1.0}


@dataclass(frozen=True)
class PyramidSettings(fields.Settings):
    """Label image, previous frame and state, concatenated and convolved down level by level."""

    state_size: int = fields.field(
        _GROUP, "channels of the state that the context processor carries."
    )
    label_size: int | None = fields.field(
        _GROUP,
        "height and width at which label images are learned, before they are enlarged to a frame. "
        "The default is a frame's size, as in the paper; smaller images overfit less where there "
        "are few clips per label.",
    )
    label_scale: float = fields.field(
        _GROUP, "standard deviation of the label images at initialisation; 1 in the paper.", low=0
    )

    DROPS_LABELS: ClassVar[bool] = False
    PRESETS: ClassVar[fields.Presets] = {
        "paper": _PAPER,
        "paper_small": _SMALL,
        "small": _SMALL,
        "footage_small": _SMALL,
        "footage": _PAPER,
    }

    def check(self, image_size: Size, levels: int) -> None:
        """Checks that label images can be enlarged to a frame.

        Raises:
            ConfigError: naming both numbers.
        """
        del levels
        check_label_size(self.label_size, image_size)

    def check_crop(self, crop: Size, image_size: Size, sees: Sees) -> None:
        """Checks that no label image is seen, which has the size of a whole frame.

        Raises:
            ConfigError: if one is.
        """
        if sees.label:
            raise ConfigError(
                f"--tail_crop={crop} does not fit label images, which have the size of whole "
                f"frames: use --tail_crop={image_size}, or --context=unet."
            )

    def build(self, options: Any) -> Any:
        """Returns the `ContextEncoder` for `flowvid.conditioning.protocol.EncoderOptions`."""
        from flowvid.conditioning.pyramid.encoder import pyramid_encoder

        return pyramid_encoder(self, options)

    def describe(self, sees: Sees) -> list[str]:
        """Returns a line for each thing that is seen, for the model diagram."""
        lines = ["label's image, 3 channels"] * sees.label
        lines += ["previous frame, 3 channels"] * sees.previous
        return lines + [f"state, {self.state_size} channels"] * sees.state


def check_label_size(label_size: int | None, image_size: Size) -> None:
    """Checks that label images of a size can be enlarged to a frame.

    Raises:
        ConfigError: naming both numbers.
    """
    if label_size is not None and image_size.height != image_size.width:
        raise ConfigError(
            f"--label_size={label_size} needs square frames, but --image_size={image_size}: leave "
            "it out."
        )
    if image_size.height % (label_size or 1):
        raise ConfigError(
            f"--image_size={image_size} must be divisible by --label_size={label_size}, because "
            "label images are enlarged to it."
        )
