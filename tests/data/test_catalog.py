"""From a name to records: which are found, which are made on the way, and what errors say."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from data_builders.generated_builder import GeneratedConfig
from data_builders.moving_digits import moving_digits_dataset_builder as moving_digits
from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from data_builders.moving_shapes import render
from flowvid.data import catalog, datasets, media
from flowvid.errors import DataError
from flowvid.training import loop

pytest_plugins = ["system_fixtures"]

FEW_CLIPS = {"train": 3, "validation": 2}
GENERATED = {"moving_shapes": moving_shapes.Builder, "moving_digits": moving_digits.Builder}


@pytest.fixture(scope="module")
def shapes_dir(tmp_path_factory) -> Path:
    """A TFDS folder with a few clips of moving_shapes, at 64x64 and 32x32, and 8 frames of them."""
    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    short = GeneratedConfig(name="32x32_8f", image_size=32, num_frames=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving_shapes.Builder, "NUM_CLIPS", FEW_CLIPS)
        for config in (*moving_shapes.Builder.BUILDER_CONFIGS, short):
            moving_shapes.Builder(data_dir=folder, config=config).download_and_prepare()
    return folder


def load(data_dir: Path | None, name: str = "moving_shapes", split: str = "train", **wanted):
    wanted = {"num_frames": 4, "image_size": 32, **wanted}
    return datasets.load(name, split, data_dir=data_dir, **wanted)


def copy_records(shapes_dir: Path, target: Path, **changes) -> Path:
    """A copy of the 32x32 records whose dataset_info.json is changed."""
    shutil.copytree(shapes_dir / "moving_shapes/32x32_30f/1.0.0", target)
    info = json.loads((target / "dataset_info.json").read_text())
    (target / "dataset_info.json").write_text(json.dumps({**info, **changes}))
    for path in target.glob("moving_shapes-*"):
        name = changes.get("name", "moving_shapes")
        path.rename(target / path.name.replace("moving_shapes", name))
    return target


def config_found(name: str, data_dir: Path | None, num_frames: int = 30, image_size: int = 32):
    return catalog.find(name, data_dir, num_frames, image_size).builder_config.name


# Folders of records.


@pytest.mark.parametrize("below", ["moving_shapes", "moving_shapes/64x64_30f/1.0.0"])
def test_a_folder_of_records_is_a_data_set(shapes_dir, below):
    dataset = load(None, str(shapes_dir / below), num_frames=30, image_size=64)
    expected = render.render_clip(0, "train", 1, num_frames=30, image_size=64)[0]
    np.testing.assert_array_equal(dataset[1]["video"], expected)


@pytest.mark.parametrize(
    ("num_frames", "image_size", "chosen"),
    [(8, 32, "32x32_8f"), (9, 32, "32x32_30f"), (9, 16, "32x32_30f"), (8, 64, "64x64_30f")],
)
def test_a_folder_gives_the_nearest_size_and_the_shortest_sufficient_length(
    shapes_dir, num_frames, image_size, chosen
):
    assert config_found(str(shapes_dir / "moving_shapes"), None, num_frames, image_size) == chosen


def test_the_newest_version_is_read(shapes_dir, tmp_path):
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        copy_records(shapes_dir, tmp_path / "shapes" / version, version=version)
    assert catalog.find(str(tmp_path), None, 4, 32).version == "1.10.0"


def test_unfinished_records_are_not_read(shapes_dir, tmp_path):
    copy_records(shapes_dir, tmp_path / "moving/incomplete.ABC_1.0.0", name="moving")
    with pytest.raises(DataError, match="/moving holds no prepared records"):
        load(tmp_path, "moving")
    with pytest.raises(DataError, match="holds no clips and no images"):
        load(tmp_path, str(tmp_path / "moving"))


def test_a_folder_of_several_data_sets_is_refused(shapes_dir, tmp_path):
    for name in ("squares", "circles"):
        copy_records(shapes_dir, tmp_path / name / "1.0.0", name=name)
    with pytest.raises(DataError, match="holds several data sets: circles, squares;"):
        load(None, str(tmp_path))


# Generated data sets.


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_set_is_prepared_on_first_use_and_quietly(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(GENERATED[name], "NUM_CLIPS", FEW_CLIPS)
    verbosity = logging.get_verbosity()
    assert len(load(tmp_path, name, image_size=16)) == 3
    assert [path.name for path in (tmp_path / name).glob("[0-9]*")] == ["32x32_30f"]
    assert capsys.readouterr().out == (
        f"Preparing {name} in {tmp_path}/{name}/32x32_30f/1.0.0, once.\n"
    )
    assert logging.get_verbosity() == verbosity

    # A second use reads what the first one wrote.
    monkeypatch.setattr(GENERATED[name], "download_and_prepare", None)
    assert len(load(tmp_path, name, split="validation", image_size=32)) == 2
    assert len(load(tmp_path, f"{name}/32x32_30f")) == 3
    assert capsys.readouterr().out == ""


def test_another_process_may_prepare_the_same_records_first(tmp_path, monkeypatch):
    monkeypatch.setattr(moving_shapes.Builder, "NUM_CLIPS", FEW_CLIPS)
    prepare = moving_shapes.Builder.download_and_prepare

    def lose_the_race(builder):
        prepare(moving_shapes.Builder(data_dir=tmp_path, config=builder.builder_config))
        raise OSError("Directory not empty")

    monkeypatch.setattr(moving_shapes.Builder, "download_and_prepare", lose_the_race)
    assert len(load(tmp_path)) == 3


def test_a_failure_to_prepare_is_not_hidden(tmp_path, monkeypatch):
    def fail(builder):
        raise OSError("No space left on device")

    monkeypatch.setattr(moving_shapes.Builder, "download_and_prepare", fail)
    with pytest.raises(OSError, match="No space left"):
        load(tmp_path)


def test_a_known_name_is_no_path(shapes_dir, tmp_path, monkeypatch):
    (tmp_path / "moments_in_time").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"^{shapes_dir}/moments_in_time does not exist"):
        load(shapes_dir, "moments_in_time")
    with pytest.raises(DataError, match="/moments_in_time holds no clips"):
        load(shapes_dir, "./moments_in_time")


# Moments in Time.


@pytest.fixture
def moments_dir(shapes_dir, tmp_path):
    """A function that makes a TFDS folder with some configs of moments_in_time."""

    def make(*configs: str) -> Path:
        for config in configs:
            folder = tmp_path / "moments_in_time" / config / "1.0.0"
            copy_records(shapes_dir, folder, name="moments_in_time", configName=config)
        return tmp_path

    return make


def test_other_splits_and_strides_are_taken_by_their_names_alone(moments_dir):
    # "30f" alone would come after these two in the alphabet.
    data_dir = moments_dir("32x32_30f", "32x32_30-paper", "32x32_30_stride")
    assert config_found("moments_in_time", data_dir) == "32x32_30f"
    for config in ("32x32_30-paper", "32x32_30_stride", "32x32_30f"):
        assert config_found(f"moments_in_time/{config}", data_dir) == config
    assert len(load(data_dir, "moments_in_time/32x32_30-paper", "validation")) == 2


def test_where_there_are_only_others_their_names_are_told(moments_dir):
    data_dir = moments_dir("64x64_30f_paper_split", "64x64_30f_every_3rd")
    with pytest.raises(DataError) as raised:
        load(data_dir, "moments_in_time")
    message = str(raised.value)
    assert (
        "--dataset=moments_in_time/64x64_30f_every_3rd or moments_in_time/64x64_30f_paper_split"
    ) in message
    assert "tfds build data_builders/moments_in_time --manual_dir=" in message
    assert "\n" not in message


# Image data sets of TFDS.

FACES = np.random.default_rng(0).integers(0, 256, (4, 218, 178, 3), np.uint8)
DIGITS = np.random.default_rng(1).integers(0, 256, (6, 28, 28, 1), np.uint8)


class Written(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of data sets whose records are written down in the class."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURES: ClassVar[dict[str, Any]]
    RECORDS: ClassVar[dict[str, list[dict[str, Any]]]]

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(self.FEATURES)
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
        "train": [{"image": DIGITS[i], "label": 9 - i} for i in range(4)],
        "test": [{"image": DIGITS[i], "label": 9 - i} for i in (4, 5)],
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


@pytest.fixture(scope="module")
def image_sets(tmp_path_factory) -> Path:
    """A TFDS folder with little data sets of images."""
    folder = tmp_path_factory.mktemp("image_sets")
    for builder in (CelebA, Mnist, Lfw):
        builder(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def images(data_dir: Path, name: str, split: str, image_size: int) -> tuple[datasets.Dataset, list]:
    """A split, and all of its items."""
    dataset = load(data_dir, name, split, num_frames=1, image_size=image_size)
    items = [dataset[index] for index in range(len(dataset))]
    assert {item["video"].shape for item in items} == {(1, image_size, image_size, 3)}
    return dataset, items


def block_means(image: np.ndarray, size: int) -> np.ndarray:
    block = len(image) // size
    return image.reshape(size, block, size, block, -1).mean(axis=(1, 3))


@pytest.mark.parametrize(("split", "indices"), [("train", [0, 1]), ("validation", [2])])
def test_celeb_a_is_cut_to_the_face_and_averaged(image_sets, split, indices):
    dataset, items = images(image_sets, "celeb_a", split, 37)
    assert dataset.label_names == ("unlabelled",)
    assert [item["label"] for item in items] == [0] * len(indices)
    assert [item["id"] for item in items] == [str(i) for i in range(len(indices))]
    for item, index in zip(items, indices, strict=True):
        expected = block_means(FACES[index, 40:188, 15:163], 37)
        assert np.abs(item["video"][0] - expected).max() <= 1


def test_grey_images_get_three_channels_and_keep_their_labels(image_sets):
    dataset, items = images(image_sets, "mnist", "train", 14)
    assert dataset.label_names == tuple("0123456789")
    assert [item["label"] for item in items] == [9, 8, 7, 6]
    for item, digit in zip(items, DIGITS, strict=False):
        expected = np.broadcast_to(block_means(digit, 14), (14, 14, 3))
        assert np.abs(item["video"][0] - expected).max() <= 1


def test_test_stands_in_for_validation_where_there_is_none(image_sets):
    for split in ("validation", "test"):
        _, items = images(image_sets, "mnist", split, 28)
        for item, digit in zip(items, DIGITS[4:], strict=True):
            np.testing.assert_array_equal(item["video"][0], np.broadcast_to(digit, (28, 28, 3)))
    with pytest.raises(DataError, match="lfw has no examples in split 'test'; it has 3 in 'train'"):
        images(image_sets, "lfw", "validation", 8)


def test_images_may_differ_in_size_and_labels_be_no_classes(image_sets):
    dataset, items = images(image_sets, "lfw", "train", 8)
    assert dataset.label_names == ("unlabelled",)
    assert [(int(item["label"]), int(item["video"].mean())) for item in items] == [
        (0, 0),
        (0, 50),
        (0, 100),
    ]


def test_a_path_to_an_image_set_is_that_set(image_sets):
    _, by_name = images(image_sets, "celeb_a", "train", 37)
    _, by_path = images(None, str(image_sets / "celeb_a"), "train", 37)
    np.testing.assert_array_equal(by_path[1]["video"], by_name[1]["video"])


def test_more_frames_than_one_are_refused(image_sets):
    with pytest.raises(DataError, match=r"celeb_a holds single images, but 2 frames .*_frames=1,"):
        load(image_sets, "celeb_a", num_frames=2)


def test_images_without_an_index_are_refused(tmp_path):
    Mnist(data_dir=tmp_path, file_format="tfrecord").download_and_prepare()
    with pytest.raises(DataError, match=r"are tfrecord, .* `tfds build --file_format=array_"):
        load(tmp_path, "mnist", num_frames=1)


# Which data sets hold images. (Of folders of records: test_images.py.)


def test_what_holds_images(image_sets, moments_dir, shapes_dir, tmp_path):
    for name in ("celeb_a", "mnist", str(image_sets / "lfw")):
        assert catalog.holds_images(name, image_sets), name
    assert not catalog.holds_images("moving_shapes/32x32_30f", shapes_dir)
    assert not catalog.holds_images("moments_in_time", moments_dir("32x32_30f"))
    for name in ("moving_shapes", "moving_digits"):
        assert not catalog.holds_images(name, image_sets)


def test_what_of_ones_own_holds_images(tmp_path):
    for kind in ("images", "clips"):
        for index in range(2):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / kind / f"{index}.png")
    (tmp_path / "clips/clip.mp4").touch()
    shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path / "images")
    assert catalog.holds_images(str(tmp_path / "images"), tmp_path / "none")
    assert catalog.holds_images(str(tmp_path / "zipped.zip"), tmp_path / "none")
    (tmp_path / "clips/another.mp4").touch()
    assert not catalog.holds_images(str(tmp_path / "clips"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


# Training on one's own clips.


def test_two_steps_on_a_folder_of_clips(tiny, tmp_path):
    rng = np.random.default_rng(0)
    for index in range(6):
        video = rng.integers(0, 256, (6, 24, 32, 3), np.uint8)
        media.write_video(tmp_path / "clips" / "ab"[index % 2] / f"{index}.mp4", video, scale=1)
    config = tiny(
        dataset=str(tmp_path / "clips"), data_dir=str(tmp_path), variant="prev_frame", num_steps=2
    )
    state = loop.train(config, tmp_path / "run")
    assert (int(state.step), int(state.head.skipped), int(state.tail.skipped)) == (2, 0, 0)
    assert json.loads((tmp_path / "run/config.json").read_text())["label_names"] == ["a", "b"]


# Errors.


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"name": "moving_shape"}, "'moving_shape'; use moving_shapes or moving_digits or"),
        ({"name": "moments"}, "'moments'; use moments_in_time or"),
        ({"name": "celeb"}, "(`tfds build <name> --file_format=array_record`), or the path of a"),
        ({"name": ""}, "Unknown data set ''; use"),
        ({"name": "moments_in_time"}, "tfds build data_builders/moments_in_time --manual_dir="),
        (
            {"name": "moments_in_time/64x64_30f_paper_split"},
            "tfds build data_builders/moments_in_time --config=64x64_30f_paper_split --manual_dir=",
        ),
        ({"name": "celeb_a"}, "`tfds build celeb_a --file_format=array_record --data_dir="),
        ({"name": "moving_digits/32x32_30f"}, "Use moving_digits, which is generated on first"),
        ({"name": "/no/such/folder"}, "/no/such/folder does not exist. Expected are clips (.mp4"),
        ({"name": "~nobody_here/clips"}, "~nobody_here/clips does not exist"),
        ({"split": "test"}, "no examples in split 'test'; it has 3 in 'train', 2 in 'validation'"),
        ({"num_frames": 31}, "has 30 frames a video, but 31 were asked for"),
        ({"image_size": 48}, "at 32x32 and 64x64, but image size 48 was asked for"),
        ({"image_size": 128}, "at 32x32 and 64x64, but image size 128 was asked for"),
    ],
)
def test_what_cannot_be_had_is_explained_in_one_line(shapes_dir, wanted, message):
    with pytest.raises(DataError) as raised:
        load(shapes_dir, **wanted)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_default_folder_is_that_of_tfds(tmp_path, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    default = f"{tmp_path}/tensorflow_datasets"
    with pytest.raises(DataError, match=f"{default}/moments.* --data_dir={default}`"):
        load(None, "moments_in_time")
    monkeypatch.setenv("TFDS_DATA_DIR", "/elsewhere")
    with pytest.raises(DataError, match=r"/elsewhere/moments_in_time does not exist"):
        load(None, "moments_in_time")


def test_an_empty_split_is_an_error(shapes_dir, tmp_path):
    info = json.loads((shapes_dir / "moving_shapes/32x32_30f/1.0.0/dataset_info.json").read_text())
    splits = [{**split, "shardLengths": ["0"]} for split in info["splits"]]
    folder = copy_records(shapes_dir, tmp_path / "1.0.0", splits=splits)
    with pytest.raises(DataError, match="no examples in split 'train'; it has 0 in 'train'"):
        load(None, str(folder))


class NoVideo(Written, skip_registration=True):
    """Records of something else."""

    FEATURES: ClassVar = {"id": tfds.features.Text()}
    RECORDS: ClassVar = {"train": [{"id": "0"}]}


def test_records_of_another_kind_are_refused(tmp_path):
    NoVideo(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    with pytest.raises(DataError, match="no feature video, label; flowvid needs"):
        load(None, str(tmp_path))


class UnnamedLabels(Written, skip_registration=True):
    """Records whose labels are numbers without names."""

    FEATURES: ClassVar = {
        "video": tfds.features.Tensor(shape=(2, 8, 8, 3), dtype=np.uint8),
        "label": tfds.features.Scalar(np.int32),
        "id": tfds.features.Text(),
    }
    RECORDS: ClassVar = {
        "train": [{"video": np.zeros((2, 8, 8, 3), np.uint8), "label": 0, "id": "0"}]
    }


def test_records_with_labels_that_have_no_names_are_refused(tmp_path):
    UnnamedLabels(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    with pytest.raises(DataError, match=r"'label' is a .*; flowvid needs a fixed"):
        load(None, str(tmp_path))


def test_records_without_an_index_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(moving_shapes.Builder, "NUM_CLIPS", {"train": 1, "validation": 1})
    builder = moving_shapes.Builder(data_dir=tmp_path, file_format="tfrecord", config="32x32_30f")
    builder.download_and_prepare()
    with pytest.raises(DataError, match=r"are tfrecord, .* `tfds build --file_format=array_"):
        load(None, str(tmp_path))


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
def test_damaged_records_are_reported(shapes_dir, tmp_path, file):
    folder = copy_records(shapes_dir, tmp_path / "1.0.0")
    (folder / file).write_text('{"cut o')
    with pytest.raises(DataError, match=f"{folder} are damaged .*; prepare them again") as error:
        load(None, str(folder))
    assert "\n" not in str(error.value)


def test_damaged_moving_shapes_are_reported(tmp_path):
    folder = tmp_path / "moving_shapes/32x32_30f/1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"cut o')
    with pytest.raises(DataError, match=f"{tmp_path}/moving_shapes are damaged"):
        load(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"junk"])
def test_a_damaged_last_shard_is_reported(shapes_dir, tmp_path, content):
    split = {"name": "train", "shardLengths": ["3", "3"], "numBytes": "1"}
    split["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    folder = copy_records(shapes_dir, tmp_path / "1.0.0", splits=[split])
    good = folder / "moving_shapes-train.array_record-00000-of-00001"
    shards = [folder / f"moving_shapes-train.array_record-0000{i}-of-00002" for i in (0, 1)]
    for shard in shards:
        shutil.copy(good, shard)
    assert len(load(None, str(folder))) == 6

    shards[1].unlink()
    if content is not None:
        shards[1].write_bytes(content)
    with pytest.raises(DataError, match="are damaged"):
        load(None, str(folder))
