"""The plots of the report page, as SVG."""

import io
import pathlib
from typing import Any

from experiments.running import finished_runs
from flowvid.config.schema import Config
from flowvid.plotting import pyplot


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.tight_layout()
    figure.savefig(text, format="svg")
    pyplot().close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]


def _panels(count: int) -> Any:
    figure, panels = pyplot().subplots(1, count, figsize=(5.2 * count, 3.4), squeeze=False)
    for panel in panels[0]:
        panel.grid(alpha=0.3)
    return figure, panels[0]


def per_frame(report: dict[str, Any]) -> str:
    """Plots bits per dimension of each frame under each metric; "" for single images."""
    if not any(of_metric["tail"] for of_metric in report["metrics"].values()):
        return ""
    figure, (panel,) = _panels(1)
    for name, of_metric in report["metrics"].items():
        bits = [of_metric["head"]["bits_per_dim"], *of_metric["tail"]["per_frame"]]
        panel.plot(range(len(bits)), bits, "o-", markersize=3, label=f"{name} metric")
    panel.set(xlabel="frame (0: the head's)", ylabel="bits per dimension")
    panel.legend()
    return _svg(figure)


def curves(workdir: pathlib.Path, config: Config) -> str:
    """Plots bits per dimension and gradient norms over steps; "" for a run without steps."""
    bits = f"bits_per_dim_{config.metric.name}"
    of_run = finished_runs.scalars(workdir)
    if f"head/{bits}" not in of_run:
        return ""
    figure, (left, right) = _panels(2)
    for colour, name in zip(("tab:blue", "tab:orange"), config.models, strict=False):
        left.plot(*of_run[f"{name}/{bits}"], color=colour, alpha=0.4, label=f"{name}, training")
        if f"validation/{name}/{bits}" in of_run:
            held_out = of_run[f"validation/{name}/{bits}"]
            left.plot(*held_out, "o-", color=colour, markersize=3, label=f"{name}, held-out")
        right.plot(*of_run[f"{name}/gradient_norm"], color=colour, label=name)
    left.set(xlabel="step", ylabel=f"bits per dimension ({config.metric.name})")
    right.set(xlabel="step", ylabel="gradient norm", yscale="log")
    left.legend()
    right.legend()
    return _svg(figure)
