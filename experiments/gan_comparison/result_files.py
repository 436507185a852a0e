"""The files of a comparison: a table in Markdown, its numbers, some clips and a picture of them."""

import json
import pathlib
import shlex
from typing import NamedTuple

import numpy as np

from experiments.gan_comparison.comparison import COLUMNS, HELD_OUT, NOISE, TRAINING, Result
from experiments.running.finished_runs import Videos
from flowvid.data import media
from flowvid.errors import ConfigError

KEPT, DRAWN = 6, 3  # clips of each kind in the file and in the picture


class Saved(NamedTuple):
    """What the report page shows of a comparison."""

    table: str
    clips: dict[str, Videos]  # by kind
    dataset: str


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
    return f"{np.mean(values):.3g}{spread}"


def markdown(result: Result) -> str:
    """Returns the table, one row per kind."""
    lines = [
        f"{result.videos} clips per run of {result.dataset}, {result.classifiers} classifiers: "
        "mean ± standard deviation over runs and classifiers.",
        "",
        f"| | runs | {' | '.join(COLUMNS.values())} |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for kind, of_kind in result.scores.items():
        runs = "" if kind in (HELD_OUT, TRAINING, NOISE) else str(result.runs[kind])
        cells = [_cell(of_kind[name]) for name in COLUMNS]
        lines.append(f"| {kind} | {runs} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(result: Result, folder: pathlib.Path) -> None:
    """Writes the table (comparison.md), its numbers (.json) and some clips (.npz and .png)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.md").write_text(markdown(result), encoding="utf-8")
    numbers = {name: value for name, value in result._asdict().items() if name != "clips"}
    (folder / "comparison.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    kept = {kind: clips[:KEPT] for kind, clips in result.clips.items()}
    with (folder / "comparison.npz").open("wb") as file:
        np.savez_compressed(file, **kept)  # type: ignore[arg-type]
    drawn = [clip for clips in kept.values() for clip in clips[:DRAWN]]
    captions = [kind for kind, clips in kept.items() for _ in clips[:DRAWN]]
    sheet = media.contact_sheet(np.stack(drawn), captions=captions)
    media.write_image(folder / "comparison.png", sheet)


def read(folder: pathlib.Path) -> Saved:
    """Reads what `write` wrote.

    Raises:
        ConfigError: when it is not there.
    """
    try:
        with np.load(folder / "comparison.npz") as file:
            clips = dict(file)
        table = (folder / "comparison.md").read_text(encoding="utf-8")
        dataset = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["dataset"]
    except OSError as error:
        raise ConfigError(
            f"{folder} holds no comparison: make one with `python -m experiments.compare "
            f"--out={shlex.quote(str(folder))}`."
        ) from error
    return Saved(table, clips, dataset)
