"""Reading records, the order of the training stream, and what evaluation sees."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from data_builders.moving_shapes import render
from flowvid.conditioning.label_names import label_index
from flowvid.data import datasets

NUM_CLIPS = {"train": 13, "validation": 5}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """A TFDS folder with a little of moving_shapes, at 64x64 and 32x32."""
    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving_shapes.Builder, "NUM_CLIPS", NUM_CLIPS)
        for config in moving_shapes.Builder.BUILDER_CONFIGS:
            moving_shapes.Builder(data_dir=folder, config=config).download_and_prepare()
    return folder


def load(data_dir: Path, split: str = "train", **wanted) -> datasets.Dataset:
    wanted = {"num_frames": 4, "image_size": 32, **wanted}
    return datasets.load("moving_shapes", split, data_dir=data_dir, **wanted)


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


def test_label_index():
    assert label_index(render.LABELS, "orbit") == 2
    with pytest.raises(datasets.DataError, match="'bounced'; the nearest of 8: bounce, "):
        label_index(render.LABELS, "bounced")


# The training stream.


def take(dataset, num_batches: int, **settings) -> list[dict]:
    batches = datasets.train_batches(dataset, **{"batch_size": 4, "seed": 7, **settings})
    return list(itertools.islice(batches, num_batches))


def positions(batches: list[dict]) -> list[int]:
    return [int(index) for batch in batches for index in batch["index"]]


def ids(batches: list[dict]) -> list[str]:
    return [name for batch in batches for name in batch["id"]]


@pytest.fixture(scope="module")
def train(data_dir) -> datasets.Dataset:
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


@pytest.mark.parametrize("shard_count", [1, 2, 3])
def test_shards_together_see_each_example_once_in_a_pass(train, shard_count):
    batches = [
        batch
        for shard_index in range(shard_count)
        for batch in take(train, 7, batch_size=6, shard_index=shard_index, shard_count=shard_count)
    ]
    by_position = dict(zip(positions(batches), ids(batches), strict=True))
    assert sorted(by_position) == list(range(42))
    for start in (0, 13, 26):
        seen = [by_position[position] for position in range(start, start + 13)]
        assert sorted(seen) == [f"train_{index:05d}" for index in range(13)]


@pytest.mark.parametrize("shard_count", [2, 4])
def test_shards_share_the_stream_out(train, shard_count):
    unbroken = ids(take(train, 20))
    for shard_index in range(shard_count):
        shard = take(train, 5, start=3, shard_index=shard_index, shard_count=shard_count)
        expected = list(range(3 + shard_index, 23, shard_count))
        assert positions(shard) == expected
        assert ids(shard) == [unbroken[position] for position in expected]


def test_shards_must_be_equal(train):
    with pytest.raises(
        datasets.DataError, match=r"Batch size 4 must be divisible by .* processes 3"
    ):
        take(train, 1, shard_count=3)


# Evaluation.


@pytest.mark.parametrize(
    ("num_videos", "expected"),
    [(None, [0, 1, 2, 3, 4]), (3, [0, 1, 2]), (5, [0, 1, 2, 3, 4]), (1, [0])],
)
def test_evaluation_sees_each_video_once_in_order(data_dir, num_videos, expected):
    dataset = load(data_dir, split="validation")
    batches = list(datasets.eval_batches(dataset, batch_size=3, num_videos=num_videos))
    mask = np.concatenate([batch["mask"] for batch in batches])
    assert mask.dtype == np.float32
    index = np.concatenate([batch["index"] for batch in batches])
    assert index[mask == 1].tolist() == expected
    assert set(index[mask == 0]) <= {expected[-1]}
    for batch in batches:
        assert batch["video"].shape == (3, 4, 32, 32, 3)
        for row, position in enumerate(batch["index"]):
            np.testing.assert_array_equal(batch["video"][row], dataset[int(position)]["video"])


@pytest.mark.parametrize("batch_size", [1, 2, 4, 5, 7])
def test_every_batch_size_evaluates_each_video_once(data_dir, batch_size):
    dataset = load(data_dir, split="validation")
    batches = list(datasets.eval_batches(dataset, batch_size=batch_size))
    assert {len(batch["id"]) for batch in batches} == {batch_size}
    counted = [
        name
        for batch in batches
        for name, weight in zip(batch["id"], batch["mask"], strict=True)
        if weight
    ]
    assert counted == [f"validation_{index:05d}" for index in range(5)]


@pytest.mark.parametrize("num_videos", [0, 6])
def test_evaluation_of_more_videos_than_there_are_is_refused(data_dir, num_videos):
    dataset = load(data_dir, split="validation")
    with pytest.raises(datasets.DataError, match=f"Asked for {num_videos} videos, .* holds 5; ask"):
        datasets.eval_batches(dataset, batch_size=3, num_videos=num_videos)
