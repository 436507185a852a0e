"""Reads what a finished run has left: its TensorBoard curves and the clips of its dataset."""

import pathlib

import numpy as np
from jaxtyping import UInt8
from tensorboard.backend.event_processing import event_file_loader
from tensorboard.util import tensor_util

from flowvid.config.schema import Config
from flowvid.data import datasets
from flowvid.gan.config import GanConfig

Curve = tuple[list[int], list[float]]
Videos = UInt8[np.ndarray, "videos frames height width channels"]


def scalars(workdir: pathlib.Path) -> dict[str, Curve]:
    """Returns TensorBoard's scalars by tag: the steps in order, and the value at each.

    Where a resumed run has logged a step twice, the later value counts.
    """
    found: dict[str, dict[int, float]] = {}
    for path in sorted(workdir.glob("events.out.tfevents.*")):
        for event in event_file_loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                number = float(tensor_util.make_ndarray(value.tensor))
                found.setdefault(value.tag, {})[event.step] = number
    ordered = {tag: sorted(curve.items()) for tag, curve in found.items()}
    return {tag: ([s for s, _ in c], [v for _, v in c]) for tag, c in ordered.items()}


def load_split(
    config: Config | GanConfig, split: str, num_frames: int | None = None
) -> datasets.Dataset:
    """Returns a split of the dataset that a run was trained on, at its frame size.

    Args:
        config: the run's.
        split: "train" or "validation".
        num_frames: frames per clip; the run's by default.
    """
    return datasets.load(
        config.dataset,
        split,
        **datasets.options_of(config) | {"num_frames": num_frames or config.num_frames},
    )


def first_clips(dataset: datasets.Dataset, count: int) -> Videos:
    """Returns the first `count` clips of a split, or all of them where there are fewer."""
    return np.stack([dataset[index]["video"] for index in range(min(count, len(dataset)))])
