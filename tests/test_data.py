"""From a name to batches: finding records, reading them, the order of the stream, the errors."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import logging

from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from data_builders.moving_shapes import render
from flowvid import data, records

NUM_CLIPS = {"train": 13, "validation": 5}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """A TFDS folder with a little of moving_shapes, at 64x64 and 32x32, and 8 frames of it."""
    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    short = moving_shapes.MovingShapesConfig(name="32x32_8f", image_size=32, num_frames=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving_shapes.Builder, "NUM_CLIPS", NUM_CLIPS)
        for config in (*moving_shapes.Builder.BUILDER_CONFIGS, short):
            moving_shapes.Builder(data_dir=folder, config=config).download_and_prepare()
    return folder


def load(data_dir: Path | None, name: str = "moving_shapes", split: str = "train", **wanted):
    wanted = {"num_frames": 4, "image_size": 32, **wanted}
    return data.load(name, split, data_dir=data_dir, **wanted)


def rendered(index: int, image_size: int, split: str = "train", num_frames: int = 30) -> np.ndarray:
    return render.render_clip(0, split, index, num_frames=num_frames, image_size=image_size)[0]


# Reading.


@pytest.mark.parametrize("image_size", [32, 64])
def test_records_decode_to_what_was_rendered(data_dir, image_size):
    dataset = load(data_dir, split="validation", num_frames=30, image_size=image_size)
    assert len(dataset) == 5
    for index in range(5):
        item = dataset[index]
        np.testing.assert_array_equal(item["video"], rendered(index, image_size, "validation"))
        assert item["label"].dtype == np.int32
        assert dataset.label_names[item["label"]] == render.LABELS[index]
        assert item["id"] == f"validation_{index:05d}"


def test_first_frames_are_read(data_dir):
    dataset = load(data_dir, num_frames=7)
    assert dataset.num_frames == 7
    np.testing.assert_array_equal(dataset[3]["video"], rendered(3, 32)[:7])


def test_smaller_sizes_are_averaged_down_and_rounded(data_dir):
    video = load(data_dir, num_frames=30, image_size=8)[2]["video"]
    mean = rendered(2, 32).reshape(30, 8, 4, 8, 4, 3).mean(axis=(2, 4))
    assert video.dtype == np.uint8
    np.testing.assert_array_equal(video, np.rint(mean))


@pytest.mark.parametrize("below", ["moving_shapes", "moving_shapes/64x64_30f/1.0.0"])
def test_a_folder_of_records_is_a_data_set(data_dir, below):
    dataset = data.load(str(data_dir / below), "train", num_frames=30, image_size=64)
    np.testing.assert_array_equal(dataset[1]["video"], rendered(1, 64))


def test_a_folder_gives_the_nearest_size_and_the_shortest_sufficient_length(data_dir):
    folder = str(data_dir / "moving_shapes")
    for num_frames, image_size, chosen in (
        (8, 32, "32x32_8f"),
        (9, 32, "32x32_30f"),
        (9, 16, "32x32_30f"),
        (8, 64, "64x64_30f"),
    ):
        builder = records.find(folder, None, num_frames, image_size)
        assert builder.builder_config.name == chosen


def copy_records(data_dir: Path, target: Path, **changes) -> Path:
    """A copy of the 32x32 records whose dataset_info.json is changed."""
    shutil.copytree(data_dir / "moving_shapes/32x32_30f/1.0.0", target)
    info = json.loads((target / "dataset_info.json").read_text())
    (target / "dataset_info.json").write_text(json.dumps({**info, **changes}))
    return target


def test_the_newest_version_is_read(data_dir, tmp_path):
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        copy_records(data_dir, tmp_path / "shapes" / version, version=version)
    assert records.find(str(tmp_path), None, 4, 32).version == "1.10.0"


def test_unfinished_records_are_not_read(data_dir, tmp_path):
    copy_records(data_dir, tmp_path / "incomplete.ABC_1.0.0")
    with pytest.raises(data.DataError, match="holds no prepared records"):
        load(data_dir, str(tmp_path))


# Preparing.


def test_moving_shapes_is_prepared_on_first_use_and_quietly(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(moving_shapes.Builder, "NUM_CLIPS", {"train": 3, "validation": 2})
    verbosity = logging.get_verbosity()
    assert len(load(tmp_path, image_size=16)) == 3
    assert [path.name for path in (tmp_path / "moving_shapes").glob("[0-9]*")] == ["32x32_30f"]
    assert capsys.readouterr().out.startswith(f"Preparing moving_shapes in {tmp_path}")
    assert logging.get_verbosity() == verbosity

    # A second use reads what the first one wrote.
    monkeypatch.setattr(moving_shapes.Builder, "download_and_prepare", None)
    assert len(load(tmp_path, split="validation", image_size=32)) == 2


def test_another_process_may_prepare_the_same_records_first(tmp_path, monkeypatch):
    monkeypatch.setattr(moving_shapes.Builder, "NUM_CLIPS", {"train": 3, "validation": 2})
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


# Errors.


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"name": "moving_shape"}, "'moving_shape'; use moving_shapes or moments_in_time, or"),
        ({"name": "moments"}, "'moments'; use moments_in_time or moving_shapes, or"),
        ({"name": "moments_in_time"}, "tfds build data_builders/moments_in_time --manual_dir="),
        ({"name": "/no/such/folder"}, "/no/such/folder does not exist. Give a folder"),
        ({"split": "test"}, "no examples in split 'test'; it has 13 in 'train', 5 in 'validation'"),
        ({"num_frames": 31}, "has 30 frames a video, but 31 were asked for"),
        ({"image_size": 48}, "at 32x32 and 64x64, but image size 48 was asked for"),
        ({"image_size": 128}, "at 32x32 and 64x64, but image size 128 was asked for"),
    ],
)
def test_what_cannot_be_had_is_explained_in_one_line(data_dir, wanted, message):
    with pytest.raises(data.DataError) as raised:
        load(data_dir, **wanted)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_folder_without_records_says_what_was_expected(data_dir, tmp_path):
    with pytest.raises(data.DataError, match=r"holds no prepared records.*dataset_info\.json"):
        load(data_dir, str(tmp_path))


def test_the_default_folder_is_that_of_tfds(tmp_path, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    default = f"{tmp_path}/tensorflow_datasets"
    with pytest.raises(data.DataError, match=f"{default}/moments.* --data_dir={default}`"):
        load(None, "moments_in_time")
    monkeypatch.setenv("TFDS_DATA_DIR", "/elsewhere")
    with pytest.raises(data.DataError, match=r"/elsewhere/moments_in_time does not exist"):
        load(None, "moments_in_time")


def test_an_empty_split_is_an_error(data_dir, tmp_path):
    info = json.loads((data_dir / "moving_shapes/32x32_30f/1.0.0/dataset_info.json").read_text())
    splits = [{**split, "shardLengths": ["0"]} for split in info["splits"]]
    folder = copy_records(data_dir, tmp_path / "1.0.0", splits=splits)
    with pytest.raises(data.DataError, match="no examples in split 'train'; it has 0 in 'train'"):
        load(data_dir, str(folder))


def test_a_folder_of_several_data_sets_is_refused(data_dir, tmp_path):
    for name in ("squares", "circles"):
        copy_records(data_dir, tmp_path / name / "1.0.0", name=name)
    with pytest.raises(data.DataError, match="holds several data sets: circles, squares;"):
        load(data_dir, str(tmp_path))


def test_records_of_another_kind_are_refused(data_dir, tmp_path):
    tfds.testing.DummyDataset(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(data.DataError, match="no feature video, label; flowvid needs"):
        load(data_dir, str(tmp_path))


class UnnamedLabels(tfds.core.GeneratorBasedBuilder):
    """Records whose labels are numbers without names."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        video = tfds.features.Tensor(shape=(2, 8, 8, 3), dtype=np.uint8)
        features = {"video": video, "label": np.int32, "id": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"video": np.zeros((2, 8, 8, 3), np.uint8), "label": 0, "id": "0"}


def test_records_with_labels_that_have_no_names_are_refused(data_dir, tmp_path):
    UnnamedLabels(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    with pytest.raises(data.DataError, match=r"'label' is a .*; flowvid needs a fixed"):
        load(data_dir, str(tmp_path))


def test_records_without_an_index_are_refused(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(moving_shapes.Builder, "NUM_CLIPS", {"train": 1, "validation": 1})
    builder = moving_shapes.Builder(data_dir=tmp_path, file_format="tfrecord", config="32x32_30f")
    builder.download_and_prepare()
    with pytest.raises(data.DataError, match=r"are tfrecord, .* `tfds build --file_format=array_"):
        load(data_dir, str(tmp_path))


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
def test_damaged_records_are_reported(data_dir, tmp_path, file):
    folder = copy_records(data_dir, tmp_path / "1.0.0")
    (folder / file).write_text('{"cut o')
    with pytest.raises(
        data.DataError, match=f"{folder} are damaged .*; prepare them again"
    ) as error:
        load(data_dir, str(folder))
    assert "\n" not in str(error.value)


def test_damaged_moving_shapes_are_reported(tmp_path):
    folder = tmp_path / "moving_shapes/32x32_30f/1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"cut o')
    with pytest.raises(data.DataError, match=f"{tmp_path}/moving_shapes are damaged"):
        load(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"junk"])
def test_a_damaged_last_shard_is_reported(data_dir, tmp_path, content):
    split = {"name": "train", "shardLengths": ["13", "13"], "numBytes": "1"}
    split["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    folder = copy_records(data_dir, tmp_path / "1.0.0", splits=[split])
    good = folder / "moving_shapes-train.array_record-00000-of-00001"
    shards = [folder / f"moving_shapes-train.array_record-0000{i}-of-00002" for i in (0, 1)]
    for shard in shards:
        shutil.copy(good, shard)
    assert len(load(data_dir, str(folder))) == 26

    shards[1].unlink()
    if content is not None:
        shards[1].write_bytes(content)
    with pytest.raises(data.DataError, match="are damaged"):
        load(data_dir, str(folder))


def test_label_index():
    assert data.label_index(render.LABELS, "orbit") == 2
    with pytest.raises(data.DataError, match="'bounced'; the nearest of 8: bounce, "):
        data.label_index(render.LABELS, "bounced")


# The training stream.


def take(dataset, num_batches: int, **settings) -> list[dict]:
    batches = data.train_batches(dataset, **{"batch_size": 4, "seed": 7, **settings})
    return list(itertools.islice(batches, num_batches))


def positions(batches: list[dict]) -> list[int]:
    return [int(index) for batch in batches for index in batch["index"]]


def ids(batches: list[dict]) -> list[str]:
    return [name for batch in batches for name in batch["id"]]


@pytest.fixture(scope="module")
def train(data_dir) -> data.Dataset:
    return load(data_dir)


def test_a_batch_holds_whole_examples(train):
    (batch,) = take(train, 1)
    assert {key: batch[key].dtype for key in ("video", "label", "index")} == {
        "video": np.uint8,
        "label": np.int32,
        "index": np.uint32,
    }
    assert batch["video"].shape == (4, 4, 32, 32, 3)
    for row, name in enumerate(batch["id"]):
        example = train[int(name.removeprefix("train_"))]
        np.testing.assert_array_equal(batch["video"][row], example["video"])
        assert batch["label"][row] == example["label"]


def test_each_pass_holds_each_example_once_in_another_order(train):
    stream = ids(take(train, 13))  # 4 passes over 13 examples
    passes = [stream[start : start + 13] for start in range(0, 52, 13)]
    for one in passes:
        assert sorted(one) == [f"train_{index:05d}" for index in range(13)]
    assert len({tuple(one) for one in passes}) == 4


def test_the_order_is_the_seeds(train):
    assert ids(take(train, 5)) == ids(take(train, 5))
    assert ids(take(train, 5)) != ids(take(train, 5, seed=8))


@pytest.mark.parametrize("start", [1, 12, 13, 31])
def test_a_restart_continues_the_unbroken_stream(train, start):
    unbroken = ids(take(train, 20))
    resumed = take(train, 5, start=start)
    assert ids(resumed) == unbroken[start : start + 20]
    assert positions(resumed) == list(range(start, start + 20))


@pytest.mark.parametrize("shard_count", [2, 4])
def test_shards_share_the_stream_out(train, shard_count):
    unbroken = ids(take(train, 20))
    for shard_index in range(shard_count):
        shard = take(train, 5, start=3, shard_index=shard_index, shard_count=shard_count)
        expected = list(range(3 + shard_index, 23, shard_count))
        assert positions(shard) == expected
        assert ids(shard) == [unbroken[position] for position in expected]


def test_shards_must_be_equal(train):
    with pytest.raises(data.DataError, match=r"Batch size 4 must be divisible by .* processes 3"):
        take(train, 1, shard_count=3)


# Evaluation.


@pytest.mark.parametrize(
    ("num_videos", "expected"),
    [(None, [0, 1, 2, 3, 4]), (3, [0, 1, 2]), (5, [0, 1, 2, 3, 4]), (1, [0])],
)
def test_evaluation_sees_each_video_once_in_order(data_dir, num_videos, expected):
    dataset = load(data_dir, split="validation")
    batches = list(data.eval_batches(dataset, batch_size=3, num_videos=num_videos))
    mask = np.concatenate([batch["mask"] for batch in batches])
    assert mask.dtype == np.float32
    index = np.concatenate([batch["index"] for batch in batches])
    assert index[mask == 1].tolist() == expected
    assert set(index[mask == 0]) <= {expected[-1]}
    for batch in batches:
        assert batch["video"].shape == (3, 4, 32, 32, 3)
        for row, position in enumerate(batch["index"]):
            np.testing.assert_array_equal(batch["video"][row], dataset[int(position)]["video"])


@pytest.mark.parametrize("num_videos", [0, 6])
def test_evaluation_of_more_videos_than_there_are_is_refused(data_dir, num_videos):
    dataset = load(data_dir, split="validation")
    with pytest.raises(data.DataError, match=f"Asked for {num_videos} videos, .* holds 5; ask"):
        data.eval_batches(dataset, batch_size=3, num_videos=num_videos)


def test_importing_is_light():
    code = (
        "import sys, flowvid.data, flowvid.media; print({'jax', 'tensorflow'} & set(sys.modules))"
    )
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert output.strip() == "set()"
