"""Measures a run's predictions as papers do, beside two baselines by which nothing moves."""

import hashlib
import pathlib
from typing import Any, NamedTuple

import numpy as np

import flowvid
from experiments.gan_comparison import classifier
from experiments.gan_comparison.feature_metrics import frechet_distance
from experiments.prediction_measures import networks, protocol
from experiments.prediction_measures.continuations import Continuations, measure_all
from experiments.prediction_measures.networks import FeaturesOf
from experiments.rollout_measures.measures import BASELINES, check_given
from experiments.rollout_measures.result_files import SHEET_CLIPS
from experiments.running import frame_measures
from experiments.running.finished_runs import Videos, first_clips
from experiments.running.frame_measures import Measure
from flowvid.data import datasets
from flowvid.errors import ConfigError
from flowvid.evaluation import held_out, partial_results
from flowvid.evaluation.partial_results import PartialResults
from flowvid.sizes import Size
from flowvid.video.model import Model

LOWER_IS_BETTER = ("lpips",)


class Asked(NamedTuple):
    """What to measure; `experiments.prediction` describes each as a flag."""

    checkpoint: str
    split: str | None
    num_videos: int | None
    given: int
    samples: int
    temperature: float | None
    seed: int
    batch_size: int
    lpips: pathlib.Path | None
    features: pathlib.Path | None
    classifier_steps: int


class Prediction(NamedTuple):
    """The numbers, as JSON has them, and clips for a contact sheet by their caption."""

    report: dict[str, Any]
    clips: dict[str, Videos]


class _Features(NamedTuple):
    """The features of clips whose Fréchet distance is measured, or why there are none."""

    of: FeaturesOf | None
    title: str  # names the network, or the reason
    identity: Any  # what the features depend on, for intermediate results


def measure(run: pathlib.Path, asked: Asked, keep_in: pathlib.Path) -> Prediction:
    """Continues held-out clips many times, and measures the continuations.

    Args:
        run: the run's folder.
        asked: what to measure.
        keep_in: the folder of intermediate results, from which the same command resumes.

    Raises:
        ConfigError: for a run without a tail, no frame to predict, frames that are smaller than the
            window of SSIM, networks that do not fit, or samples that are not finite.
        DataError: for a split that does not exist.
    """
    model = flowvid.load(run, checkpoint=asked.checkpoint)
    config = model.config
    _check(model, asked.given)
    measures: dict[str, Measure] = {"psnr": frame_measures.psnr, "ssim": frame_measures.ssim}
    if asked.lpips is not None:
        measures["lpips"] = networks.image_distance(asked.lpips, config.image_size)
    name, options = config.dataset, datasets.options_of(config)
    wanted = held_out.choose_split(name, options, asked.split, asked.checkpoint, own=True)
    train, split = (datasets.load(name, part, **options) for part in ("train", wanted))
    num_videos = min(asked.num_videos or len(split), len(split))
    features = _features(asked, train, num_videos)
    identity = {
        "model": partial_results.identify_model(model),
        "videos": [partial_results.identify_dataset(split), num_videos],
        "asked": [asked.given, asked.samples, asked.temperature, asked.seed, asked.batch_size],
        "lpips": _digest(asked.lpips),
        "features": features.identity,
    }
    continuations = Continuations(
        model, asked.given, asked.samples, asked.batch_size, asked.temperature, asked.seed
    )
    found = measure_all(
        continuations,
        split,
        num_videos,
        measures,
        features.of,
        PartialResults(keep_in, identity),
    )
    report = {
        "settings": _settings(run, model, split, num_videos, asked),
        "rows": _rows(found, tuple(measures)),
        "frechet": _frechet(found, features),
    }
    return Prediction(report, _shown(continuations, split, found["samples/psnr"]))


def _check(model: Model, given: int) -> None:
    """Checks that a run predicts frames that can be measured."""
    model.check_tail("continuations")
    check_given(given, model.config.num_frames)
    size, window = model.config.image_size, frame_measures.SSIM_WINDOW
    if min(size) < window:
        raise ConfigError(
            f"frames are {size.both}, but SSIM needs at least {window}x{window}: use a run of "
            "larger ones."
        )


def _features(asked: Asked, train: datasets.Dataset, num_videos: int) -> _Features:
    """Returns the features of --features or, without it, of a classifier of the dataset's clips."""
    if num_videos < 2:
        return _Features(None, "a single clip has no distribution: use more clips", None)
    if asked.features is not None:
        of = networks.clip_features(asked.features, train.num_frames, train.image_size)
        return _Features(of, asked.features.name, _digest(asked.features))
    if len(train.label_names) < 2:
        return _Features(
            None, "without two labels no classifier can be trained: give --features", None
        )
    judge = classifier.train(train, asked.classifier_steps, asked.seed)
    identity = [partial_results.identify_dataset(train), asked.classifier_steps, asked.seed]
    title = "a classifier of this dataset's clips"
    return _Features(lambda clips: judge.classify(clips)[1], title, identity)


def _settings(
    run: pathlib.Path, model: Model, split: datasets.Dataset, num_videos: int, asked: Asked
) -> dict[str, Any]:
    """Returns all that the numbers depend on, for JSON."""
    size: Size = model.config.image_size
    of_networks = {
        name: None if path is None else {"file": str(path), "sha256": _digest(path)}
        for name, path in (("lpips", asked.lpips), ("features", asked.features))
    }
    return asked._asdict() | of_networks | {
        "run": str(run),
        "variant": model.config.variant,
        "step": model.step,
        "averaged": model.averaged,
        "dataset": split.name,
        "split": split.split,
        "num_videos": num_videos,
        "num_frames": model.config.num_frames,
        "image_size": size.both,
        "data_range": "0 to 1, of RGB grey levels divided by 255",
        "ssim_window": frame_measures.SSIM_WINDOW,
        "ssim_sigma": frame_measures.SSIM_SIGMA,
    }  # fmt: skip


def _rows(found: dict[str, np.ndarray], measures: tuple[str, ...]) -> dict[str, Any]:
    """Returns the measures of the model and of each baseline, for JSON."""
    values = {"model": {name: found[f"samples/{name}"] for name in measures}}
    for number, baseline in enumerate(BASELINES):
        values[baseline] = {name: found[f"baselines/{name}"][:, [number]] for name in measures}
    return {
        row: {name: protocol.summarise(v, name in LOWER_IS_BETTER) for name, v in of_row.items()}
        for row, of_row in values.items()
    }


def _frechet(found: dict[str, np.ndarray], features: _Features) -> dict[str, Any]:
    """Returns the distances of all generated clips' features from those of the real clips."""
    if features.of is None:
        return {"title": None, "reason": features.title}
    real = found["real/features"][:, 0]
    generated = {"model": found["samples/features"].reshape(-1, real.shape[1])}
    for number, baseline in enumerate(BASELINES):
        generated[baseline] = found["baselines/features"][:, number]
    return {
        "title": f"Fréchet distance of {features.title}",
        "features": real.shape[1],
        "real_clips": len(real),
        "distance": {row: frechet_distance(values, real) for row, values in generated.items()},
        "clips": {row: len(values) for row, values in generated.items()},
    }


def _shown(
    continuations: Continuations, split: datasets.Dataset, psnr: protocol.Values
) -> dict[str, Videos]:
    """Returns the first clips, the best sample of each by PSNR, and its first sample."""
    count = min(SHEET_CLIPS, len(psnr))
    real = first_clips(split, count)
    labels = [int(split[number]["label"]) for number in range(count)]
    best = protocol.best_samples(psnr, lower_is_better=False).tolist()

    def drawn(samples: list[int]) -> Videos:
        numbers = range(count)
        return np.stack([continuations.sample(real[n], labels[n], n, samples[n]) for n in numbers])

    title = f"best of {continuations.samples}"
    return {"real": real, title: drawn(best), "a random sample": drawn([0] * count)}


def _digest(path: pathlib.Path | None) -> str | None:
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
