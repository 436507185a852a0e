"""Matplotlib without a display, imported only where something is drawn."""

from typing import Any


def pyplot() -> Any:
    """Returns `matplotlib.pyplot`, which draws to files alone."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
