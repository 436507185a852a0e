"""What a flow and a GAN can both be measured by: features, diversity, the nearest training clip."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

import flowvid
from experiments import classifier, report_parts, run_data
from experiments.run_data import Videos
from flowvid.config import config_file
from flowvid.data import datasets, media
from flowvid.errors import ConfigError
from flowvid.gan import config as gan_config
from flowvid.gan import trained

Features = Float[np.ndarray, "videos features"]

HELD_OUT, TRAINING, NOISE = "held-out clips", "training clips", "uniform noise"
KEPT, DRAWN = 6, 3  # clips of each kind: in the file, in the picture
COLUMNS = {
    "distance": "Fréchet distance to held-out clips",
    "diversity": "diversity (held-out clips: 1)",
    "nearest": "nearest training clip (grey levels)",
    "accuracy": "classified as the label asked for",
}


class Generated(NamedTuple):
    """Clips of one run."""

    kind: str  # the run without its seed
    clips: Videos
    labels: list[str] | None  # that they were asked for


class Result(NamedTuple):
    """A comparison."""

    clips: dict[str, Videos]  # by kind, of its first run; without the noise
    scores: dict[str, dict[str, list[float]]]  # by kind and column, one a run and classifier
    runs: dict[str, int]  # of each kind
    classifiers: int
    videos: int
    dataset: str


def is_gan(workdir: pathlib.Path) -> bool:
    """Whether a folder holds a run of the GAN.

    Raises:
        ConfigError: when it holds no run at all.
    """
    path = workdir / "schema.json"
    try:
        return "objective" in json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{workdir} holds no run: {error}. Train one first.") from error


def _settings(workdir: pathlib.Path) -> Any:
    return (gan_config if is_gan(workdir) else config_file).read(workdir)[0]


def frechet_distance(a: Features, b: Features) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), the squared distance of two Gaussians.

    Fitted to features as in Heusel et al. 2017, there to those of Inception.
    """
    mean = np.sum((a.mean(0) - b.mean(0)) ** 2)
    cov_a, cov_b = (np.cov(x, rowvar=False) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # A B and A^(1/2) B A^(1/2) have the same eigenvalues; the latter is symmetric.
    shared = np.linalg.eigvalsh(root @ cov_b @ root)
    cross = np.sum(np.sqrt(np.maximum(shared, 0)))
    return float(mean + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def diversity(features: Features) -> float:
    """The mean distance of two clips' features."""
    squares = (features**2).sum(1)
    pairs = squares[:, None] + squares - 2 * features @ features.T
    count = len(features)
    return float(np.sqrt(np.maximum(pairs, 0)).sum() / (count * (count - 1)))


def _generate(
    workdir: pathlib.Path, count: int, frames: int, temperatures: Sequence[float], seed: int
) -> list[Generated]:
    """Clips of a run, cut to so many frames; of a flow at each temperature."""
    if is_gan(workdir):
        gan = trained.load(workdir)
        labels = gan.turns(count) if gan.config.labels else None
        clips = gan.sample(count, seed=seed)[:, :frames]
        return [Generated(f"GAN, {gan.config.objective}", clips, labels)]
    model = flowvid.load(workdir)
    found = []
    for temperature in temperatures:
        samples = model.sample(count, num_frames=frames, temperature=temperature, seed=seed)
        clips, finite = map(np.asarray, samples)
        if finite.sum() < 2:
            raise ConfigError(f"{workdir}: fewer than 2 of {count} samples are finite.")
        labels = None
        if model.config.ablation.uses_labels:
            labels = [name for name, kept in zip(model.turns(count), finite, strict=True) if kept]
        name = f"flow, {model.config.variant}, temperature {temperature:g}"
        found.append(Generated(name, clips[finite], labels))
    return found


def compare(
    workdirs: Sequence[pathlib.Path],
    *,
    num_videos: int,
    temperatures: Sequence[float],
    num_classifiers: int,
    classifier_steps: int,
    seed: int,
) -> Result:
    """Compares the clips of runs of one data set and frame size, at the frames that all have.

    Args:
        workdirs: of flows and GANs.
        num_videos: of each, at least 2.
        temperatures: of the flows.
        num_classifiers: trained, one a seed.
        classifier_steps: of their training.
        seed: of the clips.

    Raises:
        ConfigError: when the runs do not fit together, or a folder holds none.
    """
    settings = [_settings(workdir) for workdir in workdirs]
    frames = min(other.num_frames for other in settings)
    first = dataclasses.replace(settings[0], num_frames=frames)
    for workdir, other in zip(workdirs, settings, strict=True):
        for name in ("dataset", "image_size"):
            mine, its = getattr(first, name), getattr(other, name)
            if mine != its:
                raise ConfigError(
                    f"{workdirs[0]} is of --{name}={mine}, {workdir} of {its}: compare runs of "
                    "the same clips."
                )
    train, held_out = (run_data.split_of(first, split) for split in ("train", "validation"))
    real, seen = (run_data.clips(first, split, num_videos) for split in ("validation", "train"))
    noise = np.random.default_rng(seed).integers(0, 256, real.shape, np.uint8)
    groups = [
        Generated(HELD_OUT, real, _labels(held_out, len(real))),
        Generated(TRAINING, seen, _labels(train, len(seen))),
    ]
    for workdir in tqdm(workdirs, desc="generating", unit="run", leave=False):
        groups += _generate(workdir, num_videos, frames, temperatures, seed)
    groups.append(Generated(NOISE, noise, None))
    judges = [
        classifier.train(train, classifier_steps, number) for number in range(num_classifiers)
    ]
    features_of_real = [judge.see(real)[1] for judge in judges]
    scores: dict[str, dict[str, list[float]]] = {}
    for group in groups:
        of_kind = scores.setdefault(group.kind, {name: [] for name in COLUMNS})
        if group.kind != TRAINING:  # each of which is its own nearest
            near = report_parts.nearest(group.clips, train, f"nearest, {group.kind}").distance
            of_kind["nearest"].append(float(np.median(near)))
        for judge, of_real in zip(judges, features_of_real, strict=True):
            told, features = judge.see(group.clips)
            if group.kind != HELD_OUT:
                of_kind["distance"].append(frechet_distance(features, of_real))
            of_kind["diversity"].append(diversity(features) / diversity(of_real))
            if group.labels is not None:
                asked = [train.label_names.index(label) for label in group.labels]
                of_kind["accuracy"].append(float(np.mean(told == asked)))
    kinds = [group.kind for group in groups]
    clips: dict[str, Videos] = {}
    for group in groups[:-1]:
        clips.setdefault(group.kind, group.clips)
    return Result(
        clips=clips,
        scores=scores,
        runs={kind: kinds.count(kind) for kind in scores},
        classifiers=num_classifiers,
        videos=num_videos,
        dataset=first.dataset,
    )


def _labels(dataset: datasets.Dataset, count: int) -> list[str]:
    return [dataset.label_names[int(dataset[i]["label"])] for i in range(count)]


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
    return f"{np.mean(values):.3g}{spread}"


def markdown(result: Result) -> str:
    """The table, a row a kind."""
    lines = [
        f"{result.videos} clips a run of {result.dataset}, {result.classifiers} classifiers: mean "
        "± standard deviation over runs and classifiers.",
        "",
        f"| | runs | {' | '.join(COLUMNS.values())} |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    models = {HELD_OUT, TRAINING, NOISE}
    for kind, of_kind in result.scores.items():
        runs = "" if kind in models else str(result.runs[kind])
        cells = [_cell(of_kind[name]) for name in COLUMNS]
        lines.append(f"| {kind} | {runs} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(result: Result, folder: pathlib.Path) -> None:
    """Writes the table (comparison.md), its numbers (.json) and some clips (.npz and .png)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.md").write_text(markdown(result))
    numbers = {name: value for name, value in result._asdict().items() if name != "clips"}
    (folder / "comparison.json").write_text(json.dumps(numbers, indent=1) + "\n")
    kept = {kind: clips[:KEPT] for kind, clips in result.clips.items()}
    with (folder / "comparison.npz").open("wb") as file:
        np.savez_compressed(file, **kept)  # type: ignore[arg-type]
    drawn = [clip for clips in kept.values() for clip in clips[:DRAWN]]
    captions = [kind for kind, clips in kept.items() for _ in clips[:DRAWN]]
    sheet = media.contact_sheet(np.stack(drawn), captions=captions)
    media.write_image(folder / "comparison.png", sheet)


def read(folder: pathlib.Path) -> tuple[str, dict[str, Videos]]:
    """The table and the clips by kind that `write` wrote.

    Raises:
        ConfigError: when there are none.
    """
    try:
        with np.load(folder / "comparison.npz") as file:
            return (folder / "comparison.md").read_text(), dict(file)
    except OSError as error:
        raise ConfigError(
            f"{folder} holds no comparison: make one with `python -m experiments.compare "
            f"--out={folder}`."
        ) from error


def section(folder: pathlib.Path) -> report_parts.Section:
    """The part of the report page that shows what `write` wrote.

    Raises:
        ConfigError: when there is none.
    """
    table, clips = read(folder)
    rows = [[report_parts.clip(clip, kind) for clip in some] for kind, some in clips.items()]
    text = (
        "Distance and diversity are of the features of small classifiers, trained on the labels of "
        "the training clips; of the distance, what training clips have is due to the number of "
        "clips alone. The nearest training clip is the median."
    )
    return report_parts.Section("Beside other models", text, rows, table)
