"""The table and the pictures of how labels are obeyed."""

import json
import pathlib

import numpy as np

from experiments.label_obedience.obedience import Obedience, accuracies, report
from experiments.running.plotting import pyplot
from flowvid.data import media

_SHEET_CLIPS = 16  # taking turns over the labels


def table(result: Obedience) -> str:
    """Returns a text table: for each label, how many clips are called by it."""
    lines = [f"{'called by their label':24}{'real':>10}{'generated':>12}"]
    of_labels = zip(
        result.label_names, accuracies(result.real), accuracies(result.generated), strict=True
    )
    found = report(result)
    rows = [*of_labels, ("all", found["real"]["accuracy"], found["generated"]["accuracy"])]
    lines += [f"{name:24}{real:>10.0%}{generated:>12.0%}" for name, real, generated in rows]
    return "\n".join([*lines, f"{'chance':24}{found['chance']:>10.0%}{found['chance']:>12.0%}"])


def write(result: Obedience, folder: pathlib.Path) -> None:
    """Writes obedience.json, confusion.png, and samples.png with what each sample is called."""
    text = json.dumps(report(result), indent=2, allow_nan=False)
    (folder / "obedience.json").write_text(text + "\n", encoding="utf-8")
    draw_confusions(result, folder / "confusion.png")
    captions = [
        f"{result.label_names[label]}: {result.label_names[called]}"
        for label, called in zip(result.labels, result.called, strict=True)
    ]
    sheet = media.contact_sheet(result.samples[:_SHEET_CLIPS], captions=captions[:_SHEET_CLIPS])
    media.write_image(folder / "samples.png", sheet)


def draw_confusions(result: Obedience, path: pathlib.Path) -> None:
    """Draws both confusion matrices side by side, as shares of each label's clips."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(10, 5), sharey=True)
    names = result.label_names
    for axis, title, matrix in zip(
        axes, ("held-out clips", "samples"), (result.real, result.generated), strict=True
    ):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        for row, column in np.ndindex(*shares.shape):
            share = shares[row, column]
            axis.text(
                column, row, f"{share:.0%}", ha="center", va="center", fontsize=7,
                color="white" if share > 0.5 else "black",
            )  # fmt: skip
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.set(title=title, xlabel="the classifier's label")
    axes[0].set_ylabel("the clip's label")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
