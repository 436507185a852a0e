"""The video datasets of TFDS: their clips, labels and splits."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from records import load
from video_sets import ACTIONS, AUX, BAIR_FRAMES, DIGITS, LENGTHS, MAIN

from flowvid.config.dataset_names import say_once
from flowvid.data import catalog, clip_records, datasets, pictures
from flowvid.data.video_features import Wanted
from flowvid.errors import DataError

pytest_plugins = ["records", "video_sets"]

BAIR = "bair_robot_pushing_small"


@pytest.fixture
def own(video_sets, tmp_path):
    """A copy of the UCF-101 records, for tests that write beside them."""
    shutil.copytree(video_sets / "ucf101", tmp_path / "ucf101")
    for path in tmp_path.rglob("clips-*"):
        path.unlink()
    return tmp_path


@pytest.fixture
def said(capsys):
    """A function that returns what is printed from now on, once per process, by its lines."""
    say_once.cache_clear()
    capsys.readouterr()
    return lambda: capsys.readouterr().out.splitlines()


def open_all(data_dir: Path, name: str, split: str = "train", **wanted) -> tuple:
    """Returns a split and all of its items."""
    dataset = load(data_dir, name, split, **wanted)
    return dataset, [dataset[index] for index in range(len(dataset))]


# Images in sequences.


def test_bair_is_its_main_camera_without_labels(video_sets, said):
    dataset, items = open_all(video_sets, BAIR, num_frames=4, image_size=64)
    assert dataset.label_names == ("unlabelled",)
    assert [(int(item["label"]), item["id"]) for item in items] == [(0, str(i)) for i in range(6)]
    for item, clip in zip(items, MAIN, strict=False):
        np.testing.assert_array_equal(item["video"], clip[:4])
    assert said() == [
        f"{BAIR} in {video_sets}/{BAIR}/1.0.0 has no validation split: the last 1 of its 7 "
        "training clips are held out for validation.",
        f"{BAIR}: the video is image_main; --video_feature can be image_aux1, too.",
    ]


def test_frames_are_averaged_by_area(video_sets):
    _, items = open_all(video_sets, BAIR, num_frames=2, image_size="16x32")
    wide = MAIN[:6, :2, 16:48].reshape(6, 2, 16, 2, 32, 2, 3).mean((3, 5))
    assert np.abs([item["video"] for item in items] - wide).max() <= 1


@pytest.mark.parametrize(
    ("split", "clips"), [("train", [*range(6)]), ("validation", [6]), ("test", [7, 8])]
)
def test_another_camera_is_named_and_the_end_of_train_held_out(video_sets, split, clips):
    named = {"num_frames": BAIR_FRAMES, "image_size": 64, "video_feature": "image_aux1"}
    dataset, items = open_all(video_sets, BAIR, split, **named)
    np.testing.assert_array_equal([item["video"] for item in items], AUX[clips])
    assert dataset.fingerprint != load(video_sets, BAIR, split).fingerprint


def test_no_more_is_decoded_than_is_shown(video_sets, monkeypatch):
    decoded = []
    decode = pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda file: decoded.append(file) or decode(file))
    dataset = load(video_sets, BAIR, num_frames=3)
    decoded.clear()  # the check of types at run time looks at a record
    assert dataset.label(0) == 0
    assert not decoded
    assert dataset[0]["video"].shape == (3, 32, 32, 3)
    assert len(decoded) == 3


def test_of_several_configs_one_is_named(video_sets, tmp_path):
    for config in "ab":
        folder = tmp_path / BAIR / config / "1.0.0"
        shutil.copytree(video_sets / BAIR / "1.0.0", folder)
        info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
        text = json.dumps(info | {"configName": config})
        (folder / "dataset_info.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"several configs .*: a, b; use --dataset={BAIR}/<config>"):
        load(tmp_path, BAIR)
    assert len(load(tmp_path, f"{BAIR}/b")) == 6


def test_more_frames_than_all_clips_have_are_refused(video_sets):
    with pytest.raises(DataError, match=r"has 6 frames per video, but 7 .* use at most 6"):
        load(video_sets, BAIR, num_frames=7)


# Clips of any size and length.


def test_clips_are_cut_and_cropped_and_keep_their_labels(video_sets, said):
    dataset, items = open_all(video_sets, "ucf101", num_frames=5, image_size=8)
    assert dataset.label_names == tuple(ACTIONS)
    numbers = [0, 1, 3, 4, 5, 6, 7, 8, 9, 10]  # 2 is too short, 11 held out
    assert [item["id"] for item in items] == [str(number) for number in numbers]
    assert [int(item["label"]) for item in items] == [100 - number for number in numbers]
    assert [dataset.label(index) for index in range(10)] == [100 - number for number in numbers]
    levels = np.array([[20 * number + frame for frame in range(5)] for number in numbers])
    videos = np.stack([item["video"] for item in items]).astype(float)
    assert np.abs(videos - levels[..., None, None, None]).max() <= 2  # JPEG
    where = f"ucf101 in {video_sets}/ucf101/1.0.0"
    assert said() == [
        f"{where} has no validation split: the last 1 of its 12 training clips are held out for "
        "validation.",
        f"{where}, split 'train': 1 of 11 clips have fewer than 5 frames and are left out.",
    ]


def test_frames_are_counted_once(own, monkeypatch):
    clips = load(own, "ucf101", num_frames=5)
    (path,) = (own / "ucf101/1.0.0").glob("clips-*")
    assert path.name == "clips-train-video-label.json"
    assert tuple(json.loads(path.read_text())["frames"]) == LENGTHS["train"]
    with monkeypatch.context() as patch:
        patch.setattr(clip_records, "parse", None)
        assert len(load(own, "ucf101", "validation", num_frames=5)) == 1
        longer = load(own, "ucf101", num_frames=6, max_skipped=0.6)
    assert len(longer) == 5
    assert longer.fingerprint != clips.fingerprint == load(own, "ucf101", num_frames=5).fingerprint
    for stale in ("", "[]", json.dumps({"of": {"num_bytes": 1}, "frames": [9] * 12})):
        path.write_text(stale)
        assert len(load(own, "ucf101", num_frames=5)) == 10


def test_damage_is_reported_where_frames_are_counted(own, monkeypatch):
    def fail(record):
        raise ValueError("wire type")

    monkeypatch.setattr(clip_records, "parse", fail)
    with pytest.raises(DataError, match=r"ucf101/1.0.0 are damaged \(wire type\); prepare them"):
        load(own, "ucf101", num_frames=5)


def test_where_counts_cannot_be_kept_they_are_made_each_time(own, monkeypatch, said):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(clip_records.paths, "whole_file", refuse)
    assert len(load(own, "ucf101", num_frames=5)) == 10
    assert "video-label.json cannot be written (Permission denied): clips are read" in said()[1]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"num_frames": 6},
            "6 of 11 clips have fewer than 6 frames, more than --max_skipped=0.5 allows: use a "
            "larger one, or at most --num_frames=5.",
        ),
        ({"num_frames": 5, "max_skipped": 0.05}, "larger one, or at most --num_frames=3."),
        ({"num_frames": 10}, "'train': no clip has 10 frames; use at most --num_frames=9, the le"),
    ],
)
def test_too_many_short_clips_are_refused(video_sets, wanted, message):
    with pytest.raises(DataError) as raised:
        load(video_sets, "ucf101", **wanted)
    assert message in str(raised.value)


def test_labels_can_be_left_out(video_sets):
    dataset, items = open_all(video_sets, "ucf101", num_frames=3, label_feature="none")
    assert dataset.label_names == ("unlabelled",)
    assert {int(item["label"]) for item in items} == {0}


# A single split.


def test_a_single_split_is_divided(video_sets, said):
    loaded = {
        split: open_all(video_sets, "moving_mnist", split, num_frames=20, image_size=64)[1]
        for split in ("train", "validation", "test")
    }
    assert {split: [item["id"] for item in items] for split, items in loaded.items()} == {
        "train": [str(i) for i in range(8)],
        "validation": ["8"],
        "test": ["9"],
    }
    videos = np.stack([item["video"] for items in loaded.values() for item in items])
    np.testing.assert_array_equal(videos, np.repeat(DIGITS, 3, axis=-1))
    assert said() == [
        f"moving_mnist in {video_sets}/moving_mnist/1.0.0 has the split 'test' alone: the first 8 "
        "of its 10 clips are for training, the next 1 for validation, the last 1 for testing."
    ]
    wanted = {"data_dir": video_sets, "num_frames": 20, "image_size": 64}
    assert datasets.has_split("moving_mnist", "train", **wanted)


# Which features.


def test_rules_choose_among_several_features(video_sets, said):
    dataset, items = open_all(video_sets, "episodes", num_frames=2, image_size=8)
    assert said() == [
        "episodes: the video is steps/seen/main; --video_feature can be steps/hand or depth, too.",
        "episodes: the label is task/kind; --label_feature can be where, too.",
    ]
    assert dataset.label_names == ("push", "pull", "lift")
    for item in items:
        assert item["label"] == 2
        assert (item["video"] == 255).all()  # transparent pixels, on white


def test_named_features_are_taken(video_sets):
    for name, levels in (("steps/hand", (0, 1)), ("depth", (0, 0))):
        wanted = {"video_feature": name, "label_feature": "where", "num_frames": 2}
        dataset, items = open_all(video_sets, "episodes", image_size=8, **wanted)
        assert dataset.label_names == ("in", "out")
        assert [int(item["label"]) for item in items] == [0, 1, 0]
        for number, item in enumerate(items):
            assert [int(f.mean()) for f in item["video"]] == [10 * number + i for i in levels]
            assert np.ptp(item["video"], axis=(1, 2, 3)).max() == 0


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("episodes", {"video_feature": "hand"}, "--video_feature=hand: episodes has no video of "),
        ("episodes", {"video_feature": "hand"}, "use steps/hand or "),
        ("episodes", {"label_feature": "steps/move"}, "use where or task/kind or none, or leave"),
        (BAIR, {"label_feature": "action"}, "has no label of that name: use none, or leave the"),
        ("mnist", {"video_feature": "image"}, "mnist has no video of that name: leave the flag"),
        ("moving_shapes", {"video_feature": "clip"}, "no video of that name: use video, or leave"),
        ("moving_shapes", {"label_feature": "clip"}, "use label or none, or leave the flag out"),
    ],
)
def test_wrong_names_are_told_from_right_ones(
    video_sets, image_sets, shapes_dir, name, wanted, message
):
    folder = {"mnist": image_sets, "moving_shapes": shapes_dir}.get(name, video_sets)
    with pytest.raises(DataError) as raised:
        load(folder, name, **{"num_frames": 1, **wanted})
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_other_datasets_can_be_without_labels_too(image_sets, shapes_dir):
    for folder, name in ((image_sets, "mnist"), (shapes_dir, "moving_shapes")):
        wanted = {"num_frames": 1, "image_size": 32}
        plain = load(folder, name, **wanted, label_feature="label", video_feature="")
        without = load(folder, name, **wanted, label_feature="none")
        assert plain.fingerprint == load(folder, name, **wanted).fingerprint
        assert without.fingerprint != plain.fingerprint
        assert len(plain.label_names) > 1
        assert without.label_names == ("unlabelled",)
        assert [without.label(index) for index in range(3)] == [0, 0, 0]
        assert [plain.label(index) for index in range(3)] == [plain[i]["label"] for i in range(3)]
        np.testing.assert_array_equal(without[1]["video"], plain[1]["video"])
        assert without[1]["label"] == 0


def test_videos_are_no_images(video_sets):
    for name in (BAIR, "ucf101", "moving_mnist", "episodes"):
        assert not catalog.holds_images(name, video_sets, Wanted())
