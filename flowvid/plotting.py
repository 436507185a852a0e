"""Matplotlib without a display, imported only where something is drawn."""

from typing import Any

from flowvid.errors import ConfigError


def pyplot() -> Any:
    """Returns `matplotlib.pyplot`, which draws to files alone.

    Raises:
        ConfigError: if Matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError(
            "pictures need Matplotlib: run `pip install 'flowvid[experiments]'`."
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
