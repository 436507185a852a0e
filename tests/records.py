"""Prepared records for tests: a few clips of moving_shapes, copies of them, and small image sets.

A test file uses the fixtures by `pytest_plugins = ["records"]`.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_builders.generated_builder import GeneratedConfig
from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from flowvid.data import datasets

FEW_CLIPS = {"train": 3, "validation": 2}


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS folder with a few clips of moving_shapes, at 64x64 and 32x32, and 8 frames of them."""
    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    short = GeneratedConfig(name="32x32_8f", image_size=32, num_frames=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving_shapes.Builder, "NUM_CLIPS", FEW_CLIPS)
        for config in (*moving_shapes.Builder.BUILDER_CONFIGS, short):
            moving_shapes.Builder(data_dir=folder, config=config).download_and_prepare()
    return folder


def load(
    data_dir: Path | None, name: str = "moving_shapes", split: str = "train", **wanted: Any
) -> datasets.Dataset:
    """Opens a split, by default 4 frames at 32x32."""
    wanted = {"num_frames": 4, "image_size": 32, **wanted}
    return datasets.load(name, split, data_dir=data_dir, **wanted)


def copy_records(shapes_dir: Path, target: Path, **changes: Any) -> Path:
    """A copy of the 32x32 records whose dataset_info.json is changed."""
    shutil.copytree(shapes_dir / "moving_shapes/32x32_30f/1.1.0", target)
    info = json.loads((target / "dataset_info.json").read_text())
    (target / "dataset_info.json").write_text(json.dumps({**info, **changes}))
    for path in target.glob("moving_shapes-*"):
        name = changes.get("name", "moving_shapes")
        path.rename(target / path.name.replace("moving_shapes", name))
    return target


@pytest.fixture
def moments_dir(shapes_dir: Path, tmp_path: Path) -> Any:
    """A function that makes a TFDS folder with some configs of moments_in_time."""

    def make(*configs: str) -> Path:
        for config in configs:
            folder = tmp_path / "moments_in_time" / config / "1.0.0"
            copy_records(shapes_dir, folder, name="moments_in_time", configName=config)
        return tmp_path

    return make


# Image datasets of TFDS.

FACES = np.random.default_rng(0).integers(0, 256, (4, 218, 178, 3), np.uint8)
DIGITS = np.random.default_rng(1).integers(0, 256, (22, 28, 28, 1), np.uint8)


class Written(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The base of datasets whose records are written down in the class."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURES: ClassVar[Any]  # a dict, or a feature
    RECORDS: ClassVar[dict[str, list[dict[str, Any]]]]

    def _info(self) -> tfds.core.DatasetInfo:
        features = self.FEATURES
        if isinstance(features, dict):
            features = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in self.RECORDS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(self.RECORDS[split])


def face(index: int) -> dict[str, Any]:
    landmarks = {"lefteye_x": 69, "lefteye_y": 109}
    attributes = {"Smiling": bool(index % 2), "Young": True}
    return {"image": FACES[index], "landmarks": landmarks, "attributes": attributes}


class CelebA(Written, skip_registration=True):
    """The features of TFDS's celeb_a: no label; here without the loss of JPEG."""

    name = "celeb_a"
    FEATURES: ClassVar = {
        "image": tfds.features.Image(shape=(218, 178, 3), encoding_format="png"),
        "landmarks": tfds.features.FeaturesDict({"lefteye_x": np.int64, "lefteye_y": np.int64}),
        "attributes": tfds.features.FeaturesDict({"Smiling": np.bool_, "Young": np.bool_}),
    }
    RECORDS: ClassVar = {
        "train": [face(0), face(1)],
        "validation": [face(2)],
        "test": [face(3)],
    }


class Mnist(Written, skip_registration=True):
    """The features and splits of TFDS's mnist."""

    name = "mnist"
    FEATURES: ClassVar = {
        "image": tfds.features.Image(shape=(28, 28, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    RECORDS: ClassVar = {
        "train": [{"image": DIGITS[i], "label": 9 - i % 10} for i in range(20)],
        "test": [{"image": DIGITS[i], "label": 9 - i % 10} for i in (20, 21)],
    }


class Lfw(Written, skip_registration=True):
    """As TFDS's lfw, a label that is a text; and images of several sizes."""

    name = "lfw"
    FEATURES: ClassVar = {
        "image": tfds.features.Image(encoding_format="png"),
        "label": tfds.features.Text(),
    }
    RECORDS: ClassVar = {
        "train": [
            {"image": np.full((12 + 9 * i, 30, 3), 50 * i, np.uint8), "label": "Ada"}
            for i in range(3)
        ]
    }


@pytest.fixture(scope="session")
def image_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS folder with small datasets of images."""
    folder = tmp_path_factory.mktemp("image_sets")
    for builder in (CelebA, Mnist, Lfw):
        builder(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder
