"""The table, the curves and the contact sheet of measured predictions."""

import json
import pathlib
import shlex
from typing import Any, NamedTuple

import numpy as np

from experiments.prediction_measures.prediction import Prediction
from experiments.rollout_measures.measures import AFTER
from experiments.rollout_measures.result_files import sheet
from flowvid.data import media
from flowvid.errors import ConfigError
from flowvid.plotting import pyplot

TITLES = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lpips": "LPIPS"}
_DIGITS = {"psnr": 2, "ssim": 4, "lpips": 4}
FILES = ("prediction.json", "curves.png", "samples.png")
Report = dict[str, Any]


class Saved(NamedTuple):
    """What the page about a run shows of it."""

    table: str
    dataset: str
    curves: bytes  # a PNG file


def table(report: Report) -> str:
    """Returns a text table: each measure at some later frames, and its mean over all of them."""
    settings, rows = report["settings"], report["rows"]
    later = settings["num_frames"] - settings["given"]
    frames = [frame for frame in AFTER if frame <= later]
    lines = [
        f"{settings['samples']} samples of each of {settings['num_videos']} clips of "
        f"{settings['dataset']} {settings['split']}, {settings['given']} frames given, "
        f"{later} predicted; step {settings['step']}"
    ]
    heads = "".join(f"{f'+{frame}':>9}" for frame in frames) + f"{'all frames':>20}"
    for name in rows["model"]:
        for kind in ("best", "mean"):
            of = "best sample" if kind == "best" else "mean of samples"
            lines += ["", f"{f'{TITLES[name]}, {of}':28}{heads}"]
            kinds = ((row, values[name][kind]) for row, values in rows.items())
            lines += [_line(row, values, frames, _DIGITS[name]) for row, values in kinds]
    return "\n".join([*lines, "", *_frechet_lines(report["frechet"])])


def _line(row: str, values: dict[str, Any], frames: list[int], digits: int) -> str:
    cells = "".join(f"{values['mean'][frame - 1]:>9.{digits}f}" for frame in frames)
    overall = values["all_frames"]
    error = "" if overall["stderr"] is None else f" ± {overall['stderr']:.{digits}f}"
    return f"{row:28}{cells}" + f"{overall['mean']:.{digits}f}{error}".rjust(20)


def _frechet_lines(frechet: dict[str, Any]) -> list[str]:
    if frechet["title"] is None:
        return [f"no Fréchet distance: {frechet['reason']}"]
    return [
        f"{frechet['title']}, of whole clips to {frechet['real_clips']} real ones",
        *(
            f"{row:28}{distance:>9.4g}   ({frechet['clips'][row]} clips)"
            for row, distance in frechet["distance"].items()
        ),
    ]


def write(prediction: Prediction, command: str, folder: pathlib.Path) -> None:
    """Writes prediction.json, curves.png, and samples.png with the first clips."""
    report = prediction.report
    draw_curves(report, folder / "curves.png")
    rows = sheet(prediction.clips, report["settings"]["given"])
    media.write_image(folder / "samples.png", rows)
    saved = {"command": command, "table": table(report)} | report
    text = json.dumps(saved, indent=2, allow_nan=False, default=str)
    (folder / "prediction.json").write_text(text + "\n", encoding="utf-8")


def read(folder: pathlib.Path) -> Saved:
    """Reads what `write` wrote.

    Raises:
        ConfigError: when it is not there.
    """
    try:
        numbers = json.loads((folder / "prediction.json").read_text(encoding="utf-8"))
        curves = (folder / "curves.png").read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{folder} holds no measured predictions: run `python -m experiments.prediction "
            f"--out={shlex.quote(str(folder))}`."
        ) from error
    return Saved(numbers["table"], numbers["settings"]["dataset"], curves)


def draw_curves(report: Report, path: pathlib.Path) -> None:
    """Draws each measure over the frame's number: best sample, mean of samples, and baselines.

    Bands are standard errors over clips.
    """
    plt = pyplot()
    rows, settings = report["rows"], report["settings"]
    names = list(rows["model"])
    figure, axes = plt.subplots(1, len(names), figsize=(4.8 * len(names), 3.6), squeeze=False)
    frames = np.arange(settings["given"] + 1, settings["num_frames"] + 1)
    for axis, name in zip(axes[0], names, strict=True):
        curves = {
            f"best of {settings['samples']} samples": rows["model"][name]["best"],
            "mean of samples": rows["model"][name]["mean"],
        } | {row: values[name]["mean"] for row, values in rows.items() if row != "model"}
        for label, curve in curves.items():
            (line,) = axis.plot(frames, curve["mean"], ".-", markersize=3, label=label)
            if curve["stderr"] is not None:
                mean, error = np.array(curve["mean"]), np.array(curve["stderr"])
                axis.fill_between(
                    frames, mean - error, mean + error, color=line.get_color(), alpha=0.2, lw=0
                )
        axis.set(xlabel="frame", title=TITLES[name])
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
