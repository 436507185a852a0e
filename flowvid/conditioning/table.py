"""The table of context encoders: `--context` chooses one of them, and its settings are flags.

A new encoder is one module, with a settings dataclass as
`flowvid.conditioning.protocol.EncoderSettings` describes it, and one line here.
"""

from typing import Any

from flowvid.conditioning.pyramid.settings import PyramidSettings
from flowvid.conditioning.unet.settings import UnetSettings

# of `EncoderSettings` classes
CONTEXTS: dict[str, Any] = {"pyramid": PyramidSettings, "unet": UnetSettings}
