"""flowvid: label-conditioned next-frame video generation with neural flows, in JAX and Flax."""

from typing import Any

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Imports a function on first use, so that the data builders' workers need no JAX."""
    if name == "load":
        from flowvid.training.checkpoints.reading import load

        return load
    if name == "clips":
        from flowvid.data.sources import clips_of

        return clips_of
    raise AttributeError(f"module 'flowvid' has no attribute {name!r}")
