"""The table of flows: `--flow` chooses one of them, and its settings are flags.

A new flow is one module, with a settings dataclass as `flowvid.flows.protocol.FlowSettings`
describes it, and one line here.
"""

from typing import Any

from flowvid.flows.glow.settings import GlowSettings
from flowvid.flows.mixture.settings import MixtureSettings

# of `FlowSettings` classes
FLOWS: dict[str, Any] = {"glow": GlowSettings, "mixture": MixtureSettings}
