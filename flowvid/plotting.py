"""Matplotlib without a display, imported only where something is drawn."""

import importlib.util
from typing import Any

from flowvid.errors import ConfigError


def check() -> None:
    """Refuses to draw without Matplotlib; to be called before hours of work for a picture.

    Raises:
        ConfigError: if it is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("pictures need Matplotlib: run `pip install 'flowvid[experiments]'`.")


def pyplot() -> Any:
    """Returns `matplotlib.pyplot`, which draws to files alone.

    Raises:
        ConfigError: if Matplotlib is not installed.
    """
    check()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
