"""What a finished run has left behind: its curves, clips that it has seen or has not."""

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
    """TensorBoard's scalars by name: steps and values; of a step written twice, the later."""
    found: dict[str, dict[int, float]] = {}
    for path in sorted(workdir.glob("events.out.tfevents.*")):
        for event in event_file_loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                number = float(tensor_util.make_ndarray(value.tensor))
                found.setdefault(value.tag, {})[event.step] = number
    ordered = {tag: sorted(curve.items()) for tag, curve in found.items()}
    return {tag: ([s for s, _ in c], [v for _, v in c]) for tag, c in ordered.items()}


def split_of(config: Config | GanConfig, split: str) -> datasets.Dataset:
    """A split of the data that a run was trained on."""
    return datasets.load(
        config.dataset,
        split,
        data_dir=config.data_dir,
        num_frames=config.num_frames,
        image_size=config.image_size,
        max_skipped=config.max_skipped,
    )


def clips(config: Config | GanConfig, split: str, count: int) -> Videos:
    """The first `count` clips of a split, as many as there are."""
    dataset = split_of(config, split)
    return np.stack([dataset[index]["video"] for index in range(min(count, len(dataset)))])
