"""Predicts training steps on one core of this machine and measures them, in turns."""

import statistics
from collections.abc import Sequence
from typing import Any

from experiments.measuring import costs, machine
from experiments.measuring.fresh_process import call
from experiments.planning import estimate, step_work
from experiments.planning.cards import of_this_core


def check(
    changes: dict[str, Any], models: Sequence[str], rounds: int, efficiency: float
) -> dict[str, Any]:
    """Returns predicted and measured seconds of the models' steps on one core.

    The machine's rates are measured before and after each step, and predict this step, so that
    other work on the machine slows down both. All times are processor time.

    Args:
        changes: the configuration, as in `experiments.measuring.costs`.
        models: "head" and "tail", or one of them.
        rounds: how many steps of each are measured.
        efficiency: share of the measured speed of large matrix products that the steps' reach.
    """
    config = costs.config_of(changes)
    rows = []
    for name in models:
        work = step_work.work(config, name, devices=1, platform="cpu")
        measured = call(
            "rates.step_in_turns", {"name": name, "changes": changes, "rounds": rounds}, cores=1
        )
        parts = [
            estimate.step_seconds(work, of_this_core(of["rates"], memory_gb=0), efficiency)
            for of in measured
        ]
        seconds = [of["seconds"] for of in measured]
        rows.append(
            {
                "model": name,
                "measured_s": seconds,
                "predicted_s": [sum(part.values()) for part in parts],
                "parts_s": {k: statistics.median(part[k] for part in parts) for k in parts[0]},
                "ratio": [sum(p.values()) / s for p, s in zip(parts, seconds, strict=True)],
                "rates": {
                    k: statistics.median(of["rates"][k] for of in measured)
                    for k in measured[0]["rates"]
                },
            }
        )
    settings = {"preset": config.preset, "variant": config.variant}
    return {"machine": machine.describe(), "efficiency": efficiency, **settings, "rows": rows}


def text(result: dict[str, Any]) -> str:
    """Returns the comparison as a table in Markdown: medians, and ranges of the ratio."""
    lines = [
        f"{result['machine']}, one of them; --preset={result['preset']} "
        f"--variant={result['variant']}; medians of {len(result['rows'][0]['ratio'])} rounds",
        "",
        "| step | measured (s) | predicted (s) | of products | elementwise | windows | traffic "
        "| predicted / measured |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        measured, predicted = (statistics.median(row[k]) for k in ("measured_s", "predicted_s"))
        parts = [row["parts_s"][k] for k in ("products", "elementwise", "windows", "traffic")]
        ratio = row["ratio"]
        shown = f"{statistics.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})"
        cells = [row["model"], *(f"{v:.3g}" for v in (measured, predicted, *parts)), shown]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
