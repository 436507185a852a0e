"""Counts how often a classifier calls real and generated clips what their label says.

Dimensions: L labels; rows are the labels of clips, columns what the classifier calls them.
"""

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

import flowvid
from experiments.label_obedience import classifier
from experiments.label_obedience.chosen_clips import chosen
from experiments.rollout_measures.measures import check_given
from experiments.running.finished_runs import Videos, load_split
from flowvid.conditioning.label_names import label_index
from flowvid.errors import ConfigError
from flowvid.evaluation.scoring import standard_error
from flowvid.video.model import Model
from flowvid.video.sampling import Samples

Confusion = Int[np.ndarray, "labels labels"]


class Obedience(NamedTuple):
    """How held-out clips and a run's samples are classified."""

    dataset: str
    frames: str  # which the classifier sees: "all", or the "first" alone
    label_names: tuple[str, ...]
    real: Confusion
    generated: Confusion
    samples: Videos
    labels: Int[np.ndarray, " videos"]  # that the samples were to have
    called: Int[np.ndarray, " videos"]  # what the classifier calls them
    given: int = 0  # frames of held-out clips that the samples continue; 0 for samples from nothing


def measure(
    run: pathlib.Path,
    *,
    labels: Sequence[str] | None,
    frames: str,
    checkpoint: str,
    per_label: int,
    given: int = 0,
    temperature: float | None,
    guidance: float | None,
    steps: int,
    seed: int,
) -> Obedience:
    """Trains a classifier on a run's clips, and classifies held-out clips and samples of the run.

    Args:
        run: the run's folder.
        labels: the names of those that the classifier tells apart; None for all.
        frames: which it sees: "all", or "first" for the first ones alone, which say how labels are
            obeyed by the head. Where the head learns from all frames of a clip, so does then the
            classifier.
        checkpoint: as for `flowvid.load`.
        per_label: samples for each label; with `given` at most so many, one per held-out clip.
        given: the first frames of held-out clips to continue under their label; 0 samples from
            nothing. How these are called says how the tail obeys labels.
        temperature: of the samples; None for the flow's default.
        guidance: how much the label counts in samples, as for `Model.sample`.
        steps: training steps of the classifier.
        seed: of the classifier and the samples.

    Raises:
        ConfigError: if the run has no labels, less than two different ones are given, clips are to
            be continued by a tail that sees no label or for a classifier of first frames, or a
            sample is not finite.
        DataError: for an unknown label.
    """
    model = flowvid.load(run, checkpoint=checkpoint)
    if not model.config.ablation.uses_labels:
        raise ConfigError(
            f"{run} is of the variant {model.config.variant}, which has no labels to obey: train "
            "one with --variant=label_everywhere or state_label."
        )
    if given:
        _check_given(run, model, frames, given)
    names = tuple(model.label_names)
    numbers = sorted({label_index(names, label) for label in labels or names})
    if len(numbers) < 2:
        raise ConfigError("a classifier needs at least two different labels: give more --labels.")
    drawn = model.config.head_frames if frames == "first" else "all"
    train = chosen(load_split(model.config, "train"), numbers, drawn)
    judge = classifier.train(train, steps, seed)
    clips, real_labels = _held_out(model, numbers, frames)
    called, _ = judge.classify(clips)
    how: dict[str, Any] = {"temperature": temperature, "guidance": guidance}
    if given:
        first = _first_of_each(real_labels, len(numbers), per_label)
        wanted = real_labels[first]
        samples = model.sample(
            first_frames=clips[first, :given], labels=np.array(numbers)[wanted], seed=seed, **how
        )
        videos = _finite(samples, run)
    else:
        chosen_names = [names[number] for number in numbers]
        num_frames = 1 if frames == "first" else None
        videos = _samples(run, model, chosen_names, per_label, seed, num_frames=num_frames, **how)
        wanted = np.tile(np.arange(len(numbers)), per_label)
    found, _ = judge.classify(videos)
    return Obedience(
        model.config.dataset,
        frames,
        train.label_names,
        confusion(real_labels, called, len(numbers)),
        confusion(wanted, found, len(numbers)),
        videos,
        wanted,
        found,
        given,
    )


def _held_out(
    model: Model, numbers: Sequence[int], frames: str
) -> tuple[Videos, Int[np.ndarray, " videos"]]:
    """Returns the held-out clips of some labels, and their labels by their place among these."""
    split = chosen(load_split(model.config, "validation"), numbers, frames)
    records = [split[index] for index in range(len(split))]
    labels = np.array([int(record["label"]) for record in records])
    return np.stack([record["video"] for record in records]), labels


def _check_given(run: pathlib.Path, model: Model, frames: str, given: int) -> None:
    check_given(given, model.config.num_frames)
    if frames == "first":
        raise ConfigError(
            "--frames=first classifies first frames, which --given takes from real clips: leave "
            "one of them out."
        )
    if not model.config.sees("tail").label:
        raise ConfigError(
            f"the tail of {run} sees no label, so continuations cannot show one: use a run of "
            "--variant=label_everywhere, or leave --given out."
        )


def _first_of_each(labels: Int[np.ndarray, " clips"], count: int, most: int) -> list[int]:
    """Returns the indices of the first clips of each of `count` labels, the labels taking turns."""
    of_each = [np.flatnonzero(labels == label)[:most].tolist() for label in range(count)]
    in_turns = itertools.zip_longest(*of_each)
    return [index for turn in in_turns for index in turn if index is not None]


def _samples(
    run: pathlib.Path, model: Model, labels: Sequence[str], count: int, seed: int, **how: Any
) -> Videos:
    """Returns `count` samples of each label; the labels take turns."""
    found = []
    for label in labels:
        own_seed = seed + model.label_names.index(label)
        found.append(_finite(model.sample(count, label, seed=own_seed, **how), run))
    videos = np.stack(found, axis=1)
    return videos.reshape(-1, *videos.shape[2:])


def _finite(samples: Samples, run: pathlib.Path) -> Videos:
    if not samples.finite.all():
        raise ConfigError(
            f"{int((~samples.finite).sum())} samples of {run} are not finite: the model has "
            "diverged, or the temperature is too high."
        )
    return np.asarray(samples.videos)


def confusion(
    labels: Int[np.ndarray, " videos"], called: Int[np.ndarray, " videos"], count: int
) -> Confusion:
    """Returns how many clips of each label are called what, [L, L]."""
    return np.bincount(labels * count + called, minlength=count**2).reshape(count, count)


def accuracies(found: Confusion) -> Float[np.ndarray, " labels"]:
    """Returns the share of each label's clips that are called by it; NaN where there is no clip."""
    with np.errstate(invalid="ignore"):
        share: np.ndarray = np.diag(found) / found.sum(axis=1)
    return share


def report(result: Obedience) -> dict[str, Any]:
    """Returns the accuracy on real and on generated clips, overall and per label, for JSON."""
    found: dict[str, Any] = {
        "dataset": result.dataset,
        "frames": result.frames,
        "given": result.given,
        "label_names": list(result.label_names),
    }
    for name, matrix in (("real", result.real), ("generated", result.generated)):
        right = np.repeat([1.0, 0.0], [np.trace(matrix), matrix.sum() - np.trace(matrix)])
        of_labels = zip(result.label_names, accuracies(matrix), strict=True)
        found[name] = {
            "accuracy": float(right.mean()),
            "stderr": standard_error(right),
            "per_label": {name: None if np.isnan(a) else float(a) for name, a in of_labels},
            "confusion": matrix.tolist(),
        }
    found["chance"] = 1 / len(result.label_names)
    return found
