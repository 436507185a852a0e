"""flowvid: label-conditioned next-frame video generation with neural flows, in JAX and Flax."""

from typing import Any

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Imports `load` when it is first used, so that the data builders' workers need no JAX."""
    if name == "load":
        from flowvid.training.checkpoints.reading import load

        return load
    raise AttributeError(f"module 'flowvid' has no attribute {name!r}")
