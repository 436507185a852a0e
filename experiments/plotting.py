"""Matplotlib without a screen, loaded only where something is drawn."""

from typing import Any


def pyplot() -> Any:
    """matplotlib.pyplot, drawing to files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
