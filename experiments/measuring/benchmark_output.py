"""The results of `experiments.benchmark` as text and as a picture."""

import pathlib
import statistics
from typing import Any

import numpy as np

from flowvid.errors import ConfigError
from flowvid.plotting import pyplot

_AXES = ("flow steps per level", "batch", "frames")
_MINUTES = (0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 50, 100)  # that are marked
_MEASURED = {
    "memory": ("temp_mb", "temporary memory (MB)"),
    "times": ("median_s", "training step (s)"),
}


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    """Returns rows as a table in Markdown."""
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(_cell(row[name]) for name in columns)} |" for row in rows]
    return "\n".join(lines)


def text(section: str, figures: Any) -> str:
    """Returns what `experiments.benchmark` prints for a section."""
    if section == "parts":
        counts = _table(
            [{"part": part} | of_part for part, of_part in figures.items()],
            ("part", "parameters", "gflop"),
        )
        tail = {p: c["gflop"] for p, c in figures.items() if p.startswith("tail")}
        share = tail.get("tail processor", 0) / sum(tail.values())
        return f"{counts}\n\nThe processor's share of a next frame's arithmetic: {share:.1%}."
    if section == "steps":
        columns = ("model", "backprop", "median_s", "of_matmul_peak", "temp_mb", "peak_rss_mb")
        return _table(figures, (*columns, "compile_s", "warm_compile_s"))
    if section == "pytorch":
        rows = [row | {"range": f"{row['lowest']:.2f} to {row['highest']:.2f}"} for row in figures]
        return _table(rows, ("model", "backprop", "median_s", "pytorch_median_s", "ratio", "range"))
    if section == "learning":
        return _table(figures, ("preset", "steps", "cpu_minutes", "bits_per_dim", "standard_error"))
    if section == "sampling":
        sampled, forward = (statistics.median(figures[f"{k}_s"]) for k in ("sampling", "forward"))
        ratio = statistics.median(np.divide(figures["forward_s"], figures["sampling_s"]).tolist())
        return (
            f"Sampling {figures['videos']} videos, {figures['frames']} frames: {sampled:.3g} s, "
            f"{figures['videos'] / sampled:.3g} videos and {figures['frames'] / sampled:.3g} "
            f"frames per second. The forward pass over as many frames takes {forward:.3g} s; "
            f"sampling runs at {ratio:.2f} of its speed."
        )
    if section == "rollouts":
        return _table(figures, ("model", "batch", "frames", "frames_per_s", "ms_per_frame"))
    if section == "loader":
        return f"The loader gives {figures['videos_per_s']:,.0f} videos per second."
    if section == "gan":
        return _table(figures, ("frames", "model", "temp_mb"))
    what = "temp_mb" if section == "memory" else "median_s"
    return _table(figures, ("model", "axis", "value", "backprop", what))


def draw(report: dict[str, Any], path: pathlib.Path) -> None:
    """Writes one picture, with a row for each of memory, times, GAN and learning in the report.

    Raises:
        ConfigError: when the report has none of them.
    """
    sections = [name for name in _MEASURED if name in report]
    others = [name for name in _DRAWN if name in report]
    rows = len(sections) + len(others)
    if not rows:
        raise ConfigError(
            "there are no curves to draw: measure them with --sections=memory,times, "
            "--sections=gan or --sections=learning."
        )
    columns = len(_AXES) if sections else 1
    size = (11 if sections else 5.5, 3.2 * rows)
    figure, panels = pyplot().subplots(rows, columns, figsize=size, squeeze=False)
    for row, section in zip(panels, sections, strict=False):
        key, label = _MEASURED[section]
        for panel, axis in zip(row, _AXES, strict=True):
            points = [p for p in report[section] if p["axis"] == axis]
            if not points:  # a flow without steps has no depth
                panel.axis("off")
                continue
            _lines(panel, points, "backprop", "value", key)
            panel.set(xlabel=f"{points[0]['model']}: {axis}", ylabel=label, ylim=(0, None))
    if sections:
        panels[0, -1].legend()
    for (panel, *unused), name in zip(panels[len(sections) :], others, strict=True):
        _DRAWN[name](panel, report[name])
        for other in unused:
            other.axis("off")
    figure.suptitle(report["machine"], fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot().close(figure)


def _draw_gan(panel: Any, points: list[dict[str, Any]]) -> None:
    _lines(panel, points, "model", "frames", "temp_mb")
    panel.set(xlabel="frames per video", ylabel="temporary memory (MB)", ylim=(0, None))
    panel.legend(fontsize=7)


def _draw_learning(panel: Any, points: list[dict[str, Any]]) -> None:
    _lines(panel, points, "preset", "cpu_minutes", "bits_per_dim")
    panel.set(
        xlabel="minutes of one core", ylabel="tail: bits per dimension, held-out", xscale="log"
    )
    minutes = [point["cpu_minutes"] for point in points]
    marks = [mark for mark in _MINUTES if min(minutes) / 2 <= mark <= 2 * max(minutes)]
    panel.set_xticks(marks, [f"{mark:g}" for mark in marks])
    panel.minorticks_off()
    panel.legend(fontsize=7)


_DRAWN = {"gan": _draw_gan, "learning": _draw_learning}  # panels alone in their row


def _lines(panel: Any, points: list[dict[str, Any]], name: str, x: str, y: str) -> None:
    """Draws a line for each value of `name`, with the values of x as marks of its axis."""
    for value in dict.fromkeys(point[name] for point in points):
        of_value = [point for point in points if point[name] == value]
        xs, ys = ([point[key] for point in of_value] for key in (x, y))
        panel.plot(xs, ys, "o-", markersize=4, label=value)
    panel.set_xticks(list(dict.fromkeys(point[x] for point in points)))
    panel.grid(alpha=0.3)
