"""Tables and pictures of measured continuations."""

import json
import pathlib
from typing import Any

import numpy as np
from jaxtyping import UInt8

from experiments.rollout_measures.measures import AFTER, Rollout
from flowvid.data import media
from flowvid.plotting import pyplot

SHEET_CLIPS = 8
_SHEET_FRAMES = (1, 2, 3, 4, 6, 8, 12, 16, 20, 26)  # after the last given one

Results = dict[str, Any]  # what is measured, by the name of the run or baseline


def table(results: Results) -> str:
    """Returns a text table: for each run or baseline its measures at some later frames."""
    rows = results["rows"]
    length = len(next(iter(rows.values()))["psnr_best"]["mean"])
    frames = [frame for frame in AFTER if frame <= length]
    head = "".join(f"{f'+{frame}':>9}" for frame in frames)
    lines = [results["title"]]
    for title, cells in _measures(rows):
        lines += ["", f"{title:34}{head}"]
        for name, at in cells.items():
            lines.append(f"{name:34}" + "".join(f"{at[frame - 1]:>9}" for frame in frames))
    return "\n".join(lines)


def _measures(rows: Results) -> list[tuple[str, dict[str, list[str]]]]:
    """Returns each measure's title, and its text at each later frame by row."""
    found = [
        (title, {name: [f"{x:.1f}" for x in row[key]["mean"]] for name, row in rows.items()})
        for title, key in (("PSNR, best of samples", "psnr_best"), ("PSNR, mean", "psnr_mean"))
    ]
    if not all("objects" in row for row in rows.values()):
        return found
    for title, key, form in (
        ("objects kept", "kept", "{:.0%}"),
        ("distance, pixels", "distance", "{:.1f}"),
    ):
        found.append(
            (
                title,
                {
                    name: ["-" if o[key] is None else form.format(o[key]) for o in row["objects"]]
                    for name, row in rows.items()
                },
            )
        )
    return found


def write(results: Results, rollouts: dict[str, Rollout], folder: pathlib.Path) -> None:
    """Writes rollouts.json, curves.png, and a contact sheet for each run."""
    text = json.dumps(results, indent=2, allow_nan=False)
    (folder / "rollouts.json").write_text(text + "\n", encoding="utf-8")
    draw_curves(results["rows"], folder / "curves.png")
    for number, rollout in enumerate(rollouts.values()):
        rows = {"real": rollout.real, "generated": rollout.samples[0]}
        media.write_image(folder / f"sheet_{number}.png", sheet(rows, rollout.given))


def draw_curves(rows: Results, path: pathlib.Path) -> None:
    """Draws PSNR and, where they are measured, objects kept over the later frames."""
    plt = pyplot()
    with_objects = all("objects" in row for row in rows.values())
    panels = ["PSNR, best of samples (dB)", *["objects kept", "distance (pixels)"] * with_objects]
    figure, axes = plt.subplots(1, len(panels), figsize=(4.5 * len(panels), 3.4), squeeze=False)
    for name, row in rows.items():
        best = row["psnr_best"]
        frames = np.arange(1, len(best["mean"]) + 1)
        lines = [best["mean"]]
        if with_objects:
            for key in ("kept", "distance"):
                values = [of_frame[key] for of_frame in row["objects"]]
                lines.append([np.nan if value is None else value for value in values])
        for axis, line in zip(axes[0], lines, strict=True):
            axis.plot(frames, line, label=name)
    for axis, title in zip(axes[0], panels, strict=True):
        axis.set(xlabel="frames after the last given one", title=title)
    axes[0, 0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def sheet(
    rows: dict[str, UInt8[np.ndarray, "videos frames height width 3"]], given: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws the first clips in their order, the last given frame first.

    Args:
        rows: clips by caption, such as the real ones and continuations; those of one number are
            drawn below each other.
        given: frames that were given.
    """
    first = next(iter(rows.values()))
    later = first.shape[1] - given
    times = [given - 1 + after for after in (0, *_SHEET_FRAMES) if after <= later]
    count = min(SHEET_CLIPS, len(first))
    together = np.stack([clips[:count, times] for clips in rows.values()], axis=1)
    captions = list(rows) * count
    flat = together.reshape(-1, *together.shape[2:])
    return media.contact_sheet(flat, columns=len(times), captions=captions)
