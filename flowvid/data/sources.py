"""Clips to compress, to score or to continue: those of a split, of a folder, or one file."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from flowvid.conditioning.label_names import label_index
from flowvid.config.schema import Config
from flowvid.data import datasets, decoding
from flowvid.errors import ClipError, ConfigError, whole_number


class Clip(NamedTuple):
    """A clip whose frames are read as they are needed."""

    name: str
    label: int  # the number of labels if it is not told
    frames: Iterator[UInt8[np.ndarray, "height width 3"]]


def chosen(
    model: Any, path: Path | None, label: str | None, split: str, num_videos: int | None
) -> Iterator[Clip]:
    """Returns the clips at a path or, where it is None, those of a split.

    Args:
        model: the run's `Model`.
        path: as in `of_path`, like `label`.
        label: of the clips at the path.
        split: as in `of_split`, like `num_videos`.
        num_videos: how many of the split.

    Raises:
        ConfigError: for a label without a path; the errors of both functions come with the clips.
    """
    if path is not None:
        return of_path(model, path, label)
    if label is not None:
        raise ConfigError("--label goes with --clips: the clips of --split have their own labels.")
    return of_split(model.config, split, num_videos)


def of_split(config: Config, split: str, num_videos: int | None) -> Iterator[Clip]:
    """Yields the first clips of a split of the run's dataset, or all for None."""
    dataset = datasets.load(config.dataset, split, **datasets.options_of(config))
    for index in range(min(num_videos or len(dataset), len(dataset))):
        example = dataset[index]
        yield Clip(example["id"], int(example["label"]), iter(example["video"]))


def clips_of(
    model: Any, split: str, num_videos: int
) -> tuple[UInt8[np.ndarray, "clips frames height width 3"], Int[np.ndarray, " clips"]]:
    """Returns the first clips of a split of the run's dataset, and their labels.

    They are of the model's image size and number of frames, as `model.log_prob` takes them. There
    are fewer than `num_videos` where the split has fewer. In a notebook this is `flowvid.clips`.

    Raises:
        ConfigError: if `num_videos` is below 1.
    """
    clips = list(of_split(model.config, split, whole_number("num_videos", num_videos, 1)))
    videos = np.stack([np.stack(list(clip.frames)) for clip in clips])
    return videos, np.array([clip.label for clip in clips])


def to_continue(model: Any, num_given: int) -> datasets.Dataset:
    """Returns the validation split, of whose clips `Model.sample` continues the first frames.

    Args:
        model: the run's `Model`.
        num_given: frames that its clips need at least.

    Raises:
        ConfigError: for a run without a tail, and where the tail sees labels that have changed.
    """
    model.check_tail("the first frames of clips")
    config: Config = model.config
    options = datasets.options_of(config)
    options["num_frames"] = max(num_given, config.num_frames)
    dataset = datasets.load(config.dataset, "validation", **options)
    if config.sees("tail").label and dataset.label_names != model.label_names:
        raise ConfigError(
            f"the labels of {dataset.name} have changed since this run was trained, so its tail "
            "cannot see them: train again."
        )
    return dataset


def of_path(model: Any, path: Path, label: str | None) -> Iterator[Clip]:
    """Yields the clips and images of a folder in the order of their names, or that of one file.

    Args:
        model: the run's `Model`.
        path: the file or folder.
        label: of all of them; None does not tell it.

    Raises:
        ClipError: where there is no clip, or one cannot be read.
        ConfigError: for a run with labels of which each must be told, without a label, and for more
            than one frame for a run without a tail.
        DataError: for an unknown label.
    """
    config: Config = model.config
    number = config.num_labels
    if label is not None:
        number = label_index(model.label_names, label)
    elif config.ablation.uses_labels and not config.label_dropout:
        raise ConfigError("this run was trained with every label told: give the clips' --label.")
    for file in _files(path):
        frames = decoding.iterate(file, config.image_size)
        if "tail" not in config.models:
            first = list(itertools.islice(frames, 2))
            if len(first) > 1:
                model.check_tail(f"{file}, which has more than one frame")
            frames = iter(first)
        yield Clip(os.path.relpath(file, path if path.is_dir() else path.parent), number, frames)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    suffixes = decoding.CLIP_SUFFIXES | decoding.IMAGE_SUFFIXES
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in suffixes and f.is_file())
    if not files:
        raise ClipError(f"{path} has no clips or images: give another folder.")
    return files
