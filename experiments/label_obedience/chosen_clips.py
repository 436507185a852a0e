"""Clips or single frames of some labels of a dataset, for a classifier to tell these apart."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from flowvid.data import datasets


@dataclasses.dataclass(frozen=True)
class _Chosen(Sequence[dict[str, Any]]):
    """Records of some clips, or of single frames of them.

    Attributes:
        source: the dataset's records.
        clips: the indices of those that are chosen.
        numbers: the number of a record's label among the chosen ones.
        frames: how many frames of each clip are records of their own; None for whole clips.
    """

    source: Sequence[dict[str, Any]]
    clips: Sequence[int]
    numbers: dict[int, int]
    frames: int | None

    def __len__(self) -> int:
        return len(self.clips) * (self.frames or 1)

    def __getitem__(self, index: Any) -> Any:
        clip, frame = divmod(index, self.frames or 1)
        record = self.source[self.clips[clip]]
        video = record["video"]
        if self.frames is not None:
            video = video[frame : frame + 1]
        return record | {"video": video, "label": self.numbers[int(record["label"])]}


def chosen(dataset: datasets.Dataset, labels: Sequence[int], frames: str) -> datasets.Dataset:
    """Returns the clips of some labels, which are numbered anew in the order that is given.

    Args:
        dataset: a split.
        labels: their numbers.
        frames: "all" for whole clips, "first" for first frames, "any" for each frame apart.
    """
    clips: Sequence[int] = range(len(dataset))
    if len(labels) < len(dataset.label_names):  # otherwise no record need be read for it
        of_clips = np.array([dataset.label(index) for index in range(len(dataset))])
        clips = np.flatnonzero(np.isin(of_clips, labels)).tolist()
    source: Any = _Chosen(
        dataset.source,
        clips,
        {label: number for number, label in enumerate(labels)},
        {"all": None, "first": 1, "any": dataset.num_frames}[frames],
    )
    return dataclasses.replace(
        dataset,
        source=source,
        label_names=tuple(dataset.label_names[label] for label in labels),
        num_frames=dataset.num_frames if frames == "all" else 1,
    )
