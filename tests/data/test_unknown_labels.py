"""The label -1, with which TFDS says that a label is not known, in clips and images."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from records import Written, load

from flowvid.config.dataset_names import say_once
from flowvid.errors import DataError

FRAMES = 3
LABELS = (0, -1, 1, 2, -1, 1)
KINDS = tfds.features.ClassLabel(names=["wave", "nod", "point"])


def gesture(number: int, label: int) -> dict[str, Any]:
    """A clip whose first frame has the grey level 10 number; the fourth one is short."""
    video = np.full((FRAMES - (number == 3), 8, 8, 3), 10 * number, np.uint8)
    return {"video": video, "kind": label}


class Gestures(Written, skip_registration=True):
    """Clips of which some labels are not known, or none is."""

    name = "gestures"
    FEATURES: ClassVar = {
        "video": tfds.features.Video(shape=(None, 8, 8, 3), encoding_format="png"),
        "kind": KINDS,
    }
    RECORDS: ClassVar = {
        "train": [gesture(*pair) for pair in enumerate(LABELS)],
        "validation": [gesture(0, 1)],
        "test": [gesture(0, -1), gesture(1, -1)],
    }


class Poses(Written, skip_registration=True):
    """Images of which one label is not known."""

    name = "poses"
    FEATURES: ClassVar = {"image": tfds.features.Image(shape=(8, 8, 3)), "label": KINDS}
    RECORDS: ClassVar = {
        split: [{"image": np.zeros((8, 8, 3), np.uint8), "label": label} for label in (1, -1, 2)]
        for split in ("train", "validation")
    }


@pytest.fixture(scope="module")
def gestures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS folder with both."""
    folder = tmp_path_factory.mktemp("unknown_labels")
    for builder in (Gestures, Poses):
        builder(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def open_clips(folder: Path, split: str = "train", **wanted: Any) -> Any:
    return load(folder, "gestures", split, **{"num_frames": 2, "image_size": 8, **wanted})


def test_clips_of_unknown_label_are_left_out_and_a_line_says_so(gestures, capsys):
    say_once.cache_clear()
    capsys.readouterr()
    dataset = open_clips(gestures)
    where = f"gestures in {gestures}/gestures/1.0.0, split 'train'"
    unknown = f"{where}: 2 of 6 clips have the label -1, which is an unknown one, and are left out;"
    assert capsys.readouterr().out.splitlines() == [f"{unknown} --label_feature=none keeps them."]
    items = [dataset[index] for index in range(len(dataset))]
    assert [(item["id"], item["label"]) for item in items] == [
        ("0", 0),
        ("2", 1),
        ("3", 2),
        ("5", 1),
    ]
    assert [int(item["video"].mean()) for item in items] == [0, 20, 30, 50]
    assert [dataset.label(index) for index in range(4)] == [0, 1, 2, 1]
    # The short one is found among the others.
    longer = open_clips(gestures, num_frames=FRAMES)
    assert f"{where}: 1 of 4 clips have fewer than 3 frames" in capsys.readouterr().out
    assert [longer[index]["id"] for index in range(3)] == ["0", "2", "5"]
    assert longer.fingerprint != dataset.fingerprint


def test_without_labels_all_clips_are_used(gestures, capsys):
    say_once.cache_clear()
    capsys.readouterr()
    for split, count in (("train", 6), ("validation", 1), ("test", 2)):
        dataset = open_clips(gestures, split, label_feature="none")
        assert len(dataset) == count
        assert [dataset[index]["label"] for index in range(count)] == [0] * count
    assert not capsys.readouterr().out


def test_labels_are_looked_at_once(gestures):
    open_clips(gestures, "validation")
    path = gestures / "gestures/1.0.0/clips-validation-video-kind.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert (kept["frames"], kept["labels"]) == ([FRAMES], [1])
    path.write_text(json.dumps(kept | {"labels": [-1]}), encoding="utf-8")
    with pytest.raises(DataError, match="all 1 clips have the label -1"):
        open_clips(gestures, "validation")
    path.unlink()
    assert len(open_clips(gestures, "validation")) == 1


@pytest.mark.parametrize(
    ("split", "wanted", "message"),
    [
        (
            "test",
            {},
            "split 'test': all 2 clips have the label -1, which is an unknown one: use another "
            "split, or --label_feature=none for clips without labels.",
        ),
        (
            "train",
            {"max_skipped": 0.3},
            "2 of 6 clips have the label -1, which is an unknown one, more than --max_skipped=0.3 "
            "allows: use a larger one, or --label_feature=none for clips without labels.",
        ),
    ],
)
def test_too_many_unknown_labels_are_refused(gestures, split, wanted, message):
    with pytest.raises(DataError) as raised:
        open_clips(gestures, split, **wanted)
    assert message in str(raised.value)


def test_an_image_of_unknown_label_is_refused_when_it_is_read(gestures):
    wanted = {"num_frames": 1, "image_size": 8}
    dataset = load(gestures, "poses", **wanted)
    assert (dataset[0]["label"], dataset.label(2)) == (1, 2)
    for read in (dataset.__getitem__, dataset.label):
        with pytest.raises(DataError) as raised:
            read(1)
        assert str(raised.value) == (
            "poses, split 'train': item 1 has the label -1, which is an unknown one: use another "
            "split, or --label_feature=none to do without labels."
        )
    without = load(gestures, "poses", **wanted, label_feature="none")
    assert [without[index]["label"] for index in range(3)] == [0, 0, 0]
