"""Datasets that are missing, of another kind, or damaged: what the errors say."""

import json
import shutil
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from records import Written, copy_records, load

from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from flowvid.errors import DataError

pytest_plugins = ["records"]


# What cannot be found.


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"name": "moving_shape"}, "'moving_shape'; use moving_shapes or moving_digits or"),
        ({"name": "moments"}, "'moments'; use moments_in_time or"),
        ({"name": "celeb"}, "(`tfds build <name> --file_format=array_record`), or the path of a"),
        ({"name": ""}, "Unknown dataset ''; use"),
        ({"name": "moments_in_time"}, "tfds build data_builders/moments_in_time --manual_dir="),
        (
            {"name": "moments_in_time/64x64_30f_paper_split"},
            "tfds build data_builders/moments_in_time --config=64x64_30f_paper_split --manual_dir=",
        ),
        ({"name": "celeb_a"}, "`tfds build celeb_a --file_format=array_record --data_dir="),
        ({"name": "moving_digits/32x32_8f"}, "Use moving_digits, which is generated on first"),
        ({"name": "/no/such/folder"}, "/no/such/folder does not exist. Expected are clips (.mp4"),
        ({"name": "~nobody_here/clips"}, "~nobody_here/clips does not exist"),
        ({"split": "test"}, "no examples in split 'test'; it has 3 in 'train', 2 in 'validation'"),
        ({"num_frames": 31}, "has 30 frames per video, but 31 were asked for"),
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


# Damage, and records of another kind.


def test_an_empty_split_is_an_error(shapes_dir, tmp_path):
    info = json.loads((shapes_dir / "moving_shapes/32x32_30f/1.1.0/dataset_info.json").read_text())
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
    with pytest.raises(DataError, match=r"hold no video: their features are id \(Text\)\. flow"):
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
    with pytest.raises(DataError, match=r"video \(Tensor\).*fixed .* with a ClassLabel 'label'"):
        load(None, str(tmp_path))


def test_records_without_an_index_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(moving_shapes.Builder, "NUM_CLIPS", {"train": 1, "validation": 1})
    builder = moving_shapes.Builder(data_dir=tmp_path, file_format="tfrecord", config="32x32_30f")
    builder.download_and_prepare()
    with pytest.raises(DataError, match=r"are tfrecord, .* `tfds build --file_format=array_"):
        load(None, str(tmp_path))


# For each case: the damaged files, and whether the shards are gone.
DAMAGE = {
    "dataset_info": (["dataset_info.json"], False),
    "features": (["features.json"], False),
    "both": (["dataset_info.json", "features.json"], False),
    "dataset_info without shards": (["dataset_info.json"], True),
    "features without shards": (["features.json"], True),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_records_are_reported(shapes_dir, tmp_path, case):
    damaged, is_without_shards = DAMAGE[case]
    folder = copy_records(shapes_dir, tmp_path / "1.0.0")
    for file in damaged:
        (folder / file).write_text('{"cut o')
    for shard in folder.glob("*.array_record-*") if is_without_shards else ():
        shard.unlink()
    with pytest.raises(DataError, match=f"{folder} are damaged .*; prepare them again") as error:
        load(None, str(folder))
    assert "\n" not in str(error.value)


def test_damaged_moving_shapes_are_reported(tmp_path):
    folder = tmp_path / "moving_shapes/32x32_30f/1.1.0"
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


@pytest.mark.parametrize("name", ["celeb_a", "moments_in_time"])
def test_commands_to_copy_are_quoted(tmp_path, name):
    folder = tmp_path / "my data"
    folder.mkdir()
    with pytest.raises(DataError, match="`tfds build ") as caught:
        load(folder, name)
    assert f"--data_dir='{folder}'`" in str(caught.value)
