"""Small datasets with the features of TFDS's video datasets, for tests.

A test file uses the fixture by `pytest_plugins = ["video_sets"]`.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from records import Written

BAIR_FRAMES, BAIR_TRAIN = 6, 7
MAIN, AUX = np.random.default_rng(0).integers(0, 256, (2, 9, BAIR_FRAMES, 64, 64, 3), np.uint8)
DIGITS = np.random.default_rng(1).integers(0, 256, (10, 20, 64, 64, 1), np.uint8)
ACTIONS = [f"Action{number:03}" for number in range(101)]
LENGTHS = {"train": (9, 5, 3, 6, 7, 5, 8, 5, 5, 6, 5, 5), "test": (5, 6)}


def pushing(index: int) -> dict[str, Any]:
    """A clip of two cameras, and what the robot does."""
    zeros = np.zeros((BAIR_FRAMES, 7), np.float32)
    images = {"image_main": MAIN[index], "image_aux1": AUX[index]}
    return images | {"action": zeros[:, :4], "endeffector_pos": zeros[:, 4:]}


class Bair(Written, skip_registration=True):
    """The features and splits of TFDS's bair_robot_pushing_small; fewer frames."""

    name = "bair_robot_pushing_small"
    FEATURES: ClassVar = tfds.features.Sequence(
        {
            "image_main": tfds.features.Image(shape=(64, 64, 3)),
            "image_aux1": tfds.features.Image(shape=(64, 64, 3)),
            "action": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "endeffector_pos": tfds.features.Tensor(shape=(3,), dtype=np.float32),
        },
        length=BAIR_FRAMES,
    )
    RECORDS: ClassVar = {
        "train": [pushing(index) for index in range(BAIR_TRAIN)],
        "test": [pushing(7), pushing(8)],
    }


def action(number: int, num_frames: int) -> dict[str, Any]:
    """A clip whose frames have the grey level 20 number + frame, between white bars."""
    rows = 20 + 2 * number
    video = np.full((num_frames, rows, rows + 20, 3), 255, np.uint8)
    for index, frame in enumerate(video):
        frame[:, 10:-10] = 20 * number + index
    return {"video": video, "label": 100 - number}


class Ucf101(Written, skip_registration=True):
    """The features and splits of TFDS's ucf101: clips of any size and length, and 101 labels."""

    name = "ucf101"
    FEATURES: ClassVar = {
        "video": tfds.features.Video(shape=(None, None, None, 3), encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=ACTIONS),
    }
    RECORDS: ClassVar = {
        split: [action(number, length) for number, length in enumerate(lengths)]
        for split, lengths in LENGTHS.items()
    }


class MovingMnist(Written, skip_registration=True):
    """The features and the only split of TFDS's moving_mnist."""

    name = "moving_mnist"
    FEATURES: ClassVar = {"image_sequence": tfds.features.Video(shape=(20, 64, 64, 1))}
    RECORDS: ClassVar = {"test": [{"image_sequence": video} for video in DIGITS]}


def episode(number: int) -> dict[str, Any]:
    """A clip of two frames."""

    def step(frame: int) -> dict[str, Any]:
        hand = np.full((8, 8, 3), 10 * number + frame, np.uint8)
        return {"hand": hand, "seen": {"main": np.zeros((8, 8, 4), np.uint8)}, "move": 0}

    return {
        "depth": np.full((2, 8, 8, 1), 10 * number, np.uint8),
        "tracks": [{"masks": np.zeros((2, 8, 8, 3), np.uint8)}],
        "steps": [step(0), step(1)],
        "task": {"kind": 2},
        "where": number % 2,
        "wide": np.zeros((2, 8, 8, 3), np.uint16),
    }


class Episodes(Written, skip_registration=True):
    """Several videos and labels at several depths, and some that are no clip's."""

    name = "episodes"
    FEATURES: ClassVar = {
        "depth": tfds.features.Video(shape=(None, 8, 8, 1)),
        "tracks": tfds.features.Sequence({"masks": tfds.features.Video(shape=(None, 8, 8, 3))}),
        "steps": tfds.features.Dataset(
            {
                "hand": tfds.features.Image(shape=(8, 8, 3)),
                "seen": {"main": tfds.features.Image(shape=(8, 8, 4))},
                "move": tfds.features.ClassLabel(names=["left", "right"]),
            }
        ),
        "task": {"kind": tfds.features.ClassLabel(names=["push", "pull", "lift"])},
        "where": tfds.features.ClassLabel(names=["in", "out"]),
        "wide": tfds.features.Video(shape=(None, 8, 8, 3), dtype=np.uint16),
    }
    RECORDS: ClassVar = {
        "train": [episode(0), episode(1), episode(2)],
        "validation": [episode(3)],
    }


@pytest.fixture(scope="session")
def video_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS folder with the datasets of this module."""
    folder = tmp_path_factory.mktemp("video_sets")
    for builder in (Bair, Ucf101, MovingMnist, Episodes):
        builder(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder
