"""Measures how well scores of clips tell unusual clips from normal ones: areas under ROC curves."""

import itertools
import json
import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

import flowvid
from flowvid.data import sources
from flowvid.errors import ConfigError
from flowvid.evaluation import clip_scores
from flowvid.plotting import pyplot

_RESAMPLES = 1000
TITLES = {
    "bits": "the model's bits",
    "excess": "the model's bits beyond H.264's",
    "codec_bits": "H.264's bits",
    "difference": "mean difference of frames",
}
Scores = Float[np.ndarray, " clips"]


class Detection(NamedTuple):
    """The mean scores of clips, by column of `clip_scores`, and the areas with standard errors."""

    normal: dict[str, Scores]
    other: dict[str, Scores]
    areas: dict[str, tuple[float, float]]


def measure(
    run: pathlib.Path,
    *,
    normal: pathlib.Path | None,
    other: pathlib.Path,
    checkpoint: str,
    label: str | None,
    videos: int,
    seed: int,
) -> Detection:
    """Scores normal and unusual clips.

    Args:
        run: the run's folder.
        normal: the folder of normal clips; None for the run's validation split.
        other: the folder of unusual clips.
        checkpoint: as for `flowvid.load`.
        label: of the clips of folders; None does not tell it.
        videos: the largest number of clips of each kind.
        seed: of the bootstrap.

    Raises:
        ConfigError: for a run without a tail, a single frame, or fewer than two clips of a kind.
        ClipError: for clips that cannot be read.
    """
    model = flowvid.load(run, checkpoint=checkpoint)
    model.check_tail("later frames to score")
    found = []
    for kind, path in (("normal", normal), ("other", other)):
        clips = (
            sources.of_split(model.config, "validation", videos)
            if path is None
            else sources.of_path(model, path, label)
        )
        rows = []
        with tqdm(desc=f"scoring {kind} clips", unit="frame", leave=False) as bar:
            for clip in itertools.islice(clips, videos):
                scores = clip_scores.score(model, clip, 0, bar.update)
                if len(scores.bits) < 2:
                    raise ConfigError(
                        f"{clip.name} of --{kind} is a single frame: give clips, which have more."
                    )
                rows.append(clip_scores.means(scores))
        if len(rows) < 2:
            raise ConfigError(f"there is 1 clip of --{kind}: give at least two.")
        found.append({column: np.array([row[column] for row in rows]) for column in TITLES})
    normal_scores, other_scores = found
    areas = {
        column: (
            area(normal_scores[column], other_scores[column]),
            area_error(normal_scores[column], other_scores[column], seed),
        )
        for column in TITLES
    }
    return Detection(normal_scores, other_scores, areas)


def area(normal: Scores, other: Scores) -> float:
    """Returns the chance that another clip's score is larger than a normal one's; ties count half.

    It is the area under the ROC curve (Hanley and McNeil 1982).
    """
    difference = other[:, None] - normal[None]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def area_error(normal: Scores, other: Scores, seed: int) -> float:
    """Returns the standard error of the area, by drawing clips of both kinds with replacement."""
    rng = np.random.default_rng(seed)
    drawn = [
        area(rng.choice(normal, len(normal)), rng.choice(other, len(other)))
        for _ in range(_RESAMPLES)
    ]
    return float(np.std(drawn, ddof=1))


def table(result: Detection) -> str:
    """Returns a text table of the areas."""
    counts = f"{len(result.normal['bits'])} normal and {len(result.other['bits'])} other clips"
    lines = [f"{'area under the ROC curve, ' + counts:64}"]
    for column, title in TITLES.items():
        found, error = result.areas[column]
        lines.append(f"{title:44}{found:>8.1%} ± {error:.1%}")
    return "\n".join(lines)


def write(result: Detection, folder: pathlib.Path) -> None:
    """Writes anomaly.json, with the scores of all clips, and roc.png."""
    numbers = {
        "areas": {c: {"area": a, "stderr": e} for c, (a, e) in result.areas.items()},
        "normal": {column: scores.tolist() for column, scores in result.normal.items()},
        "other": {column: scores.tolist() for column, scores in result.other.items()},
    }
    text = json.dumps(numbers, indent=2, allow_nan=False)
    (folder / "anomaly.json").write_text(text + "\n", encoding="utf-8")
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(5, 5))
    for column, title in TITLES.items():
        limits = np.sort(np.concatenate([result.normal[column], result.other[column]]))[::-1]
        rates = [
            [0.0, *((scores[column][None] >= limits[:, None]).mean(axis=1))]
            for scores in (result.normal, result.other)
        ]
        axes.step(*rates, where="post", label=f"{title}: {result.areas[column][0]:.0%}")
    axes.set(xlabel="normal clips called unusual", ylabel="unusual clips found")
    axes.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(folder / "roc.png", dpi=120)
    plt.close(figure)
