"""Draws what `experiments.benchmark` measured over depth, batch and frames."""

import pathlib
from typing import Any

from flowvid.errors import ConfigError

_AXES = ("flow steps a level", "batch", "frames")
_MEASURED = {
    "memory": ("temp_mb", "temporary memory (MB)"),
    "times": ("median_s", "a training step (s)"),
}


def draw(report: dict[str, Any], path: pathlib.Path) -> None:
    """Writes one picture: a row of memory and a row of times, as far as the report has them.

    Raises:
        ConfigError: when it has neither.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sections = [name for name in _MEASURED if name in report]
    if not sections:
        raise ConfigError("there are no curves to draw: --sections=memory,times measures them.")
    figure, panels = pyplot.subplots(
        len(sections), len(_AXES), figsize=(11, 3.2 * len(sections)), squeeze=False
    )
    for row, section in zip(panels, sections, strict=True):
        key, label = _MEASURED[section]
        for panel, axis in zip(row, _AXES, strict=True):
            points = [p for p in report[section] if p["axis"] == axis]
            for mode, colour in (("stored", "tab:orange"), ("reversible", "tab:blue")):
                of_mode = [p for p in points if p["backprop"] == mode]
                xs, ys = ([p[name] for p in of_mode] for name in ("value", key))
                panel.plot(xs, ys, "o-", color=colour, label=mode)
            panel.set(xlabel=f"{points[0]['model']}: {axis}", ylabel=label, ylim=(0, None))
            panel.set_xticks([p["value"] for p in points])
            panel.grid(alpha=0.3)
    panels[0, 0].legend()
    figure.suptitle(report["machine"], fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
