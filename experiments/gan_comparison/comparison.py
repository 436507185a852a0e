"""Measures flows and GANs alike: features, diversity, the nearest training clip."""

import collections
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from experiments.gan_comparison import classifier, generators
from experiments.gan_comparison.feature_metrics import diversity, frechet_distance
from experiments.gan_comparison.generators import Generated
from experiments.running import finished_runs
from experiments.running.finished_runs import Videos
from experiments.running.nearest_clips import nearest
from flowvid.data import datasets
from flowvid.errors import ConfigError
from flowvid.sizes import Size

HELD_OUT, TRAINING, NOISE = "held-out clips", "training clips", "uniform noise"
COLUMNS = {
    "distance": "Fréchet distance to held-out clips",
    "diversity": "diversity (held-out clips: 1)",
    "nearest": "nearest training clip (grey levels)",
    "accuracy": "classified as the requested label",
}
Scores = dict[str, list[float]]  # by column, one number per run and classifier


class Result(NamedTuple):
    """A comparison."""

    clips: dict[str, Videos]  # by kind, of its first run; without the noise
    scores: dict[str, Scores]  # by kind
    runs: dict[str, int]  # number of runs by kind
    classifiers: int
    videos: int
    dataset: str


def compare(
    workdirs: Sequence[pathlib.Path],
    *,
    num_videos: int,
    temperatures: Sequence[float],
    num_classifiers: int,
    classifier_steps: int,
    seed: int,
) -> Result:
    """Compares the clips of runs of one dataset and frame size, with the frames that all have.

    Runs that differ in their seed alone are of one kind; all others are shown apart.

    Args:
        workdirs: of flows and GANs.
        num_videos: clips per run, at least 2.
        temperatures: of the flows.
        num_classifiers: to train, each with its own seed.
        classifier_steps: training steps of each classifier.
        seed: of the clips.

    Raises:
        ConfigError: when a folder holds no run, a run is given twice, or the runs' datasets or
            frame sizes differ.
    """
    settings, num_frames = _shared_settings(workdirs)
    train, held_out = (
        finished_runs.load_split(settings, split, num_frames) for split in ("train", "validation")
    )
    real, seen = (finished_runs.first_clips(split, num_videos) for split in (held_out, train))
    groups = [
        Generated(HELD_OUT, real, _labels(held_out, len(real))),
        Generated(TRAINING, seen, _labels(train, len(seen))),
    ]
    models = [generators.load(workdir) for workdir in workdirs]
    runs = zip(workdirs, models, generators.kinds(workdirs, models), strict=True)
    for run in tqdm(runs, desc="generating", unit="run", total=len(workdirs), leave=False):
        groups += generators.generate(
            *run,
            num_videos=num_videos,
            num_frames=num_frames,
            temperatures=temperatures,
            seed=seed,
        )
    clips: dict[str, Videos] = {}
    for group in groups:
        clips.setdefault(group.kind, group.clips)
    noise = np.random.default_rng(seed).integers(0, 256, real.shape, np.uint8)
    groups.append(Generated(NOISE, noise, None))
    judges = [
        classifier.train(train, classifier_steps, number) for number in range(num_classifiers)
    ]
    return Result(
        clips=clips,
        scores=_scores(groups, real, train, judges),
        runs=dict(collections.Counter(group.kind for group in groups)),
        classifiers=num_classifiers,
        videos=num_videos,
        dataset=settings.dataset,
    )


def _shared_settings(workdirs: Sequence[pathlib.Path]) -> tuple[Any, int]:
    """Returns the first run's configuration, and the smallest number of frames of all runs."""
    settings = [generators.settings_of(workdir) for workdir in workdirs]
    for workdir, other in zip(workdirs, settings, strict=True):
        for name, plain in (("dataset", str), ("image_size", Size.of)):
            mine, its = (plain(getattr(one, name)) for one in (settings[0], other))
            if mine != its:
                raise ConfigError(
                    f"{workdirs[0]} has --{name}={mine}, but {workdir} has {its}: compare runs of "
                    "the same clips."
                )
    return settings[0], min(other.num_frames for other in settings)


def _scores(
    groups: Sequence[Generated],
    real: Videos,
    train: datasets.Dataset,
    judges: Sequence[classifier.Classifier],
) -> dict[str, Scores]:
    features_of_real = [judge.classify(real)[1] for judge in judges]
    scores: dict[str, Scores] = {}
    for group in groups:
        of_kind = scores.setdefault(group.kind, {name: [] for name in COLUMNS})
        if group.kind != TRAINING:  # each of which is its own nearest
            near = nearest(group.clips, train, f"nearest, {group.kind}").distance
            of_kind["nearest"].append(float(np.median(near)))
        for judge, of_real in zip(judges, features_of_real, strict=True):
            predicted, features = judge.classify(group.clips)
            if group.kind != HELD_OUT:
                of_kind["distance"].append(frechet_distance(features, of_real))
            of_kind["diversity"].append(diversity(features) / diversity(of_real))
            if group.labels is not None:
                requested = [train.label_names.index(label) for label in group.labels]
                of_kind["accuracy"].append(float(np.mean(predicted == requested)))
    return scores


def _labels(dataset: datasets.Dataset, count: int) -> list[str]:
    return [dataset.label_names[int(dataset[i]["label"])] for i in range(count)]
