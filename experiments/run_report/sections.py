"""The sections of the report page that show clips."""

import pathlib
from collections.abc import Sequence

import numpy as np

from experiments.gan_comparison import result_files
from experiments.label_obedience import result_files as obedience_files
from experiments.prediction_measures import result_files as prediction_files
from experiments.run_report.clips import Section, clip, data_uri
from experiments.running.nearest_clips import nearest
from flowvid.conditioning.label_names import as_shown
from flowvid.data import datasets
from flowvid.errors import ConfigError
from flowvid.video.model import Model

SWEPT = 6  # clips per temperature


def _is_labelled(model: Model) -> bool:
    return model.config.ablation.uses_labels


def _real_of(model: Model, held_out: datasets.Dataset, labels: list[str]) -> list[np.ndarray]:
    """Returns a held-out clip for each sample: of its label where the model sees labels."""
    used: set[int] = set()
    chosen = []
    names = [held_out.label_names[int(held_out[i]["label"])] for i in range(len(held_out))]
    for label in labels:
        fitting = [i for i, name in enumerate(names) if name == label and i not in used]
        free = [i for i in range(len(held_out)) if i not in used] or [0]
        pick = fitting[0] if _is_labelled(model) and fitting else free[0]
        used.add(pick)
        chosen.append(held_out[pick]["video"])
    return chosen


def from_nothing(
    model: Model,
    train: datasets.Dataset,
    held_out: datasets.Dataset,
    *,
    num_samples: int,
    temperature: float | None,
    seed: int,
) -> Section:
    """Returns samples, each beside a real clip and the nearest training clip."""
    samples = model.sample(num_samples, temperature=temperature, seed=seed)
    generated, finite = map(np.asarray, samples)
    kept = np.flatnonzero(finite)
    labels = [model.turns(num_samples)[i] for i in kept]
    shown = dict(zip(model.label_names, as_shown(model.label_names), strict=True))
    real = np.stack(_real_of(model, held_out, labels))
    videos = generated[kept]
    near = nearest(videos, train, "nearest training clips")
    typical = np.median(nearest(real, train, "the same for real clips").distance)
    rows = [
        [
            clip(video, f"generated, {shown[label]}" if _is_labelled(model) else "generated"),
            clip(beside, "real, held-out"),
            clip(train[int(index)]["video"], f"nearest in training, distance {distance:.1f}"),
        ]
        for video, label, beside, index, distance in zip(videos, labels, real, *near, strict=True)
    ]
    pairs = [[c for row in rows[i : i + 2] for c in row] for i in range(0, len(rows), 2)]
    lost = len(finite) - len(kept)
    warmth = (
        "The flow's default temperature" if temperature is None else f"Temperature {temperature}"
    )
    text = (
        f"{warmth}. Distances are root mean squares over all pixels of a clip, in "
        f"grey levels. The median distance of the real held-out clips shown here to their nearest "
        f"training clips is {typical:.1f}; a sample that is much nearer would be a copy."
    )
    if lost:
        text += f" {lost} non-finite samples are left out."
    return Section("Generated from nothing", text, pairs)


def continued(
    model: Model,
    held_out: datasets.Dataset,
    *,
    num_clips: int,
    num_given: int,
    temperature: float | None,
    seed: int,
) -> Section:
    """Returns held-out clips, each beside the model's continuation of its first frames."""
    count = min(num_clips, len(held_out))
    real = np.stack([held_out[i]["video"] for i in range(count)])
    given = min(num_given, real.shape[1] - 1)
    samples = model.sample(
        count,
        num_frames=real.shape[1],
        temperature=temperature,
        first_frames=real[:, :given],
        labels=np.array([held_out[i]["label"] for i in range(count)], np.int32),
        seed=seed,
    )
    generated, finite = map(np.asarray, samples)
    pairs = [
        [clip(real[i], "real"), clip(generated[i], f"continued from {given}")]
        for i in np.flatnonzero(finite)
    ]
    rows = [[c for pair in pairs[i : i + 3] for c in pair] for i in range(0, len(pairs), 3)]
    text = f"Held-out clips beside the model's continuation of their first {given} frames."
    return Section("Continued", text, rows)


def temperatures(model: Model, values: Sequence[float], seed: int) -> Section:
    """Returns the same latents at several temperatures, one row each."""
    rows = []
    for temperature in values:
        samples = model.sample(SWEPT, temperature=temperature, seed=seed)
        videos, finite = map(np.asarray, samples)
        rows.append([clip(video, f"temperature {temperature:g}") for video in videos[finite]])
    text = "Each row has the same random numbers."
    return Section("Temperature", text, rows)


def compared(folder: pathlib.Path, dataset: str) -> Section:
    """Returns the table and clips of `experiments.compare`.

    Args:
        folder: that it wrote to.
        dataset: of the page's run.

    Raises:
        ConfigError: when the folder holds no comparison, or one of another dataset.
    """
    saved = result_files.read(folder)
    if saved.dataset != dataset:
        raise ConfigError(
            f"--comparison={folder} compares clips of {saved.dataset}, but this run is of "
            f"{dataset}: give a comparison of runs on the same dataset."
        )
    rows = [[clip(video, kind) for video in some] for kind, some in saved.clips.items()]
    text = (
        "Distance and diversity are those of features of small classifiers, trained on the labels "
        "of the training clips. The distance of training clips shows what is due to the number of "
        "clips alone. The nearest training clip is a median."
    )
    return Section("Comparison with other models", text, rows, saved.table)


def _check_dataset(flag: str, folder: pathlib.Path, saved: str, dataset: str) -> None:
    if saved != dataset:
        raise ConfigError(
            f"--{flag}={folder} is of a run on {saved}, but this run is of {dataset}: give that of "
            "this run."
        )


def obeyed(folder: pathlib.Path, dataset: str) -> Section:
    """Returns the table, the confusion matrices and the samples of `experiments.obedience`.

    Args:
        folder: that it wrote to.
        dataset: of the page's run.

    Raises:
        ConfigError: when the folder does not hold them, or they are of another dataset.
    """
    saved = obedience_files.read(folder)
    _check_dataset("obedience", folder, saved.dataset, dataset)
    clips = [clip(*pair) for pair in zip(saved.samples, saved.captions, strict=True)]
    text = (
        "A classifier that is trained on real clips names the label of held-out clips and of "
        "samples. Below each sample stand its label and what the classifier calls it."
    )
    rows = [clips[i : i + 8] for i in range(0, len(clips), 8)]
    picture = data_uri(saved.confusion, "image/png")
    return Section("Do samples show their label?", text, rows, saved.table, picture)


def predicted(folder: pathlib.Path, dataset: str) -> Section:
    """Returns the table and the curves of `experiments.prediction`.

    Args:
        folder: that it wrote to.
        dataset: of the page's run.

    Raises:
        ConfigError: when the folder does not hold them, or they are of another dataset.
    """
    saved = prediction_files.read(folder)
    _check_dataset("prediction", folder, saved.dataset, dataset)
    text = (
        "Held-out clips, continued many times, and compared with the real frames. The best sample "
        "of a clip is the one with the best mean over its later frames. Bands are standard errors "
        "over clips."
    )
    return Section("Prediction", text, [], saved.table, data_uri(saved.curves, "image/png"))
