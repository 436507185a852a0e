"""Table I as Markdown, LaTeX and CSV, with the paper's numbers beside ours."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from experiments.paper.claims import claims
from experiments.paper.published import TABLE_1
from experiments.paper.seed_statistics import number
from flowvid.evaluation.text_report import TITLES

_PARTS = {"head": "first frame", "tail": "later frames"}


def _baseline(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return ""
    error = "" if entry["stderr"] is None else f" ± {entry['stderr']:.3f}"
    return f"{entry['bits_per_dim']:.3f}{error}"


def _columns(results: dict[str, Any]) -> list[tuple[str, str]]:
    metrics, parts = results["baselines"], results["rows"]["init"][results["own_metric"]]
    return [(metric, part) for metric in metrics for part in parts]


def _cells(results: dict[str, Any]) -> Iterator[list[str]]:
    """Yields the rows: the paper's numbers, then one column per metric and part."""
    columns = _columns(results)
    for row, entries in results["rows"].items():
        paper = [f"{TABLE_1[row][part]:.4f}" for part in _PARTS]
        yield [row, *paper, *(number(entries[m][p]) for m, p in columns)]
    for name, title in TITLES.items():
        cells = [_baseline(results["baselines"][m][p].get(name)) for m, p in columns]
        if any(cells):
            yield [title, "", "", *cells]


def _caption(results: dict[str, Any]) -> str:
    seeds = len(results["seeds"])
    spread = f" (standard deviation over {seeds} seeds)" if seeds > 1 else ""
    return (
        f"Bits per dimension on {results['num_videos']} videos of {results['dataset']} "
        f"{results['split']}, {results['preset']} preset, {results['num_steps']} steps: mean ± "
        f"standard error over videos{spread}. Table I: the paper's, on Moments in Time at 64x64, "
        "in the paper metric."
    )


def markdown(results: dict[str, Any]) -> str:
    """Returns the table, and below it which of the paper's claims hold."""
    titles = [f"Table I: {title}" for title in _PARTS.values()]
    titles += [f"{metric} metric: {_PARTS[part]}" for metric, part in _columns(results)]
    lines = [f"| | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    lines += [f"| {' | '.join(cells)} |" for cells in _cells(results)]
    listed = [f"- {line}" for line in claims(results)]
    return "\n".join([_caption(results), "", *lines, "", *listed]) + "\n"


def latex(results: dict[str, Any]) -> str:
    """Returns the table for a document that uses the package booktabs."""

    def escaped(text: str) -> str:
        return text.replace("_", r"\_").replace(" ± ", r" $\pm$ ")

    columns = _columns(results)
    above = " & ".join(["", r"\multicolumn{2}{c}{Table I}", *(f"{m} metric" for m, _ in columns)])
    below = " & ".join(["", *_PARTS.values(), *(_PARTS[part] for _, part in columns)])
    body = [" & ".join(map(escaped, cells)) + r" \\" for cells in _cells(results)]
    body.insert(len(results["rows"]), r"\midrule")
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{escaped(_caption(results))}}}",
            rf"\begin{{tabular}}{{l{'r' * (2 + len(columns))}}}",
            r"\toprule",
            above + r" \\",
            below + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def comma_separated(results: dict[str, Any]) -> str:
    """Returns one line per variant, metric, part and seed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["variant", "metric", "part", "seed", "bits_per_dim"])
    for row, metrics in results["rows"].items():
        for metric, parts in metrics.items():
            for part, entry in parts.items():
                for seed, bits in zip(results["seeds"], entry["per_seed"], strict=True):
                    writer.writerow([row, metric, part, seed, bits])
    return text.getvalue()
