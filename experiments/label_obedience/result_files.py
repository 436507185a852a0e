"""The table and the pictures of how labels are obeyed."""

import json
import pathlib
import shlex
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from experiments.label_obedience.obedience import Obedience, accuracies, report
from flowvid.data import media
from flowvid.errors import ConfigError
from flowvid.plotting import pyplot

_SHOWN = 16  # samples in the picture and on the page, taking turns over the labels


class Saved(NamedTuple):
    """What the report page shows of it."""

    table: str
    dataset: str
    captions: list[str]
    samples: UInt8[np.ndarray, "videos frames height width 3"]
    confusion: bytes  # a PNG file


def table(result: Obedience) -> str:
    """Returns a text table: for each label, how many of its clips or frames are called by it."""
    seen = "clips" if result.frames == "all" else "first frames"
    made = "continued" if result.given else "generated"
    lines = [f"{seen + ' of their label':28}{'real':>10}{made:>12}"]
    of_labels = zip(
        result.label_names, accuracies(result.real), accuracies(result.generated), strict=True
    )
    found = report(result)
    rows = [*of_labels, ("all", found["real"]["accuracy"], found["generated"]["accuracy"])]
    lines += [f"{name:28}{real:>10.0%}{generated:>12.0%}" for name, real, generated in rows]
    return "\n".join([*lines, f"{'chance':28}{found['chance']:>10.0%}{found['chance']:>12.0%}"])


def write(result: Obedience, folder: pathlib.Path) -> None:
    """Writes obedience.json, confusion.png, and some samples with what each of them is called.

    These are samples.png and, for the report page, samples.npz.
    """
    draw_confusions(result, folder / "confusion.png")
    names = result.label_names
    called = zip(result.labels[:_SHOWN], result.called[:_SHOWN], strict=True)
    captions = [f"{names[label]}: {names[found]}" for label, found in called]
    shown = result.samples[:_SHOWN]
    media.write_image(folder / "samples.png", media.contact_sheet(shown, captions=captions))
    with (folder / "samples.npz").open("wb") as file:
        np.savez_compressed(file, samples=shown)
    numbers = report(result) | {"table": table(result), "captions": captions}
    text = json.dumps(numbers, indent=2, allow_nan=False)
    (folder / "obedience.json").write_text(text + "\n", encoding="utf-8")


def read(folder: pathlib.Path) -> Saved:
    """Reads what `write` wrote.

    Raises:
        ConfigError: when it is not there.
    """
    try:
        numbers = json.loads((folder / "obedience.json").read_text(encoding="utf-8"))
        with np.load(folder / "samples.npz") as file:
            samples = file["samples"]
        picture = (folder / "confusion.png").read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{folder} does not say how labels are obeyed: run `python -m experiments.obedience "
            f"--out={shlex.quote(str(folder))}`."
        ) from error
    return Saved(numbers["table"], numbers["dataset"], numbers["captions"], samples, picture)


def draw_confusions(result: Obedience, path: pathlib.Path) -> None:
    """Draws both confusion matrices side by side, as shares of each label's clips."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(10, 5), sharey=True)
    names = result.label_names
    for axis, title, matrix in zip(
        axes, ("held-out", "samples"), (result.real, result.generated), strict=True
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
