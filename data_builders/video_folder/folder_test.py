"""Labels of folders of clips, and what is listed of them."""

from pathlib import Path

import pytest
from footage import load, load_all, touch, write_clip
from PIL import Image

from data_builders import listing
from data_builders.video_folder import folder
from flowvid.errors import DataError


def labels_of(root: Path) -> dict[str, str]:
    listing = folder.list_folder(root)
    return {item.id: item.label for items in listing.splits.values() for item in items}


SPLITS = ("train", "validation", "test")


LABELS = {
    "a line break": ("lines\nbreak/1.mp4", "zed/2.mp4"),
    "spaces around": ("walk/1.mp4", "walk /2.mp4", " walk/3.mp4"),
    "accents": ("caf\u00e9/1.mp4", "cafe\u0301/2.mp4"),
    "escapes as names": ("a\nb/1.mp4", "a\\nb/2.mp4"),
}


@pytest.mark.parametrize("case", LABELS)
def test_every_folder_is_a_label_of_its_own(tmp_path: Path, in_process: None, case: str) -> None:
    names = LABELS[case]
    for index, name in enumerate(names):
        write_clip(tmp_path / "clips" / name, 40 * (index + 1))
        write_clip(tmp_path / "clips" / name.replace(".mp4", "_.mp4"), 40 * (index + 1))
    examples = load_all(tmp_path / "clips", tmp_path / "data")
    labels = load(tmp_path / "clips", "train", tmp_path / "data").label_names
    assert len(set(labels)) == len(names)
    assert len(examples) == 2 * len(names)
    for index, name in enumerate(names):
        printed = listing.printable(name)
        example = examples[printed]
        assert labels[example["label"]] == printed.split("/")[0]
        assert abs(int(example["video"].mean()) - 40 * (index + 1)) <= 3


def test_a_linked_label_is_a_label(tmp_path: Path) -> None:
    root = touch(tmp_path, "run/1.mp4", ".store/2.mp4")
    (root / "walk").symlink_to(".store")
    assert labels_of(root) == {"run/1.mp4": "run", "walk/2.mp4": "walk"}


def test_animated_webp_files_are_clips(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (0, 90, 200)]
    for name, more in (
        ("a/moves.webp", frames[1:]),
        ("b/moves.webp", frames[1:]),
        ("b/still.webp", ()),
    ):
        touch(tmp_path, name)
        frames[0].save(tmp_path / name, save_all=bool(more), append_images=more)
    listing = folder.list_folder(tmp_path)
    assert not listing.are_images
    assert labels_of(tmp_path) == {"a/moves.webp": "a", "b/moves.webp": "b"}
    assert [entry.name for entry in listing.ignored] == ["b/still.webp"]


def test_a_label_may_be_called_like_a_split(tmp_path: Path) -> None:
    touch(tmp_path, "bus/1.mp4", "train/2.mp4", "car/3.mp4")
    assert folder.list_folder(tmp_path).labels == ["bus", "car", "train"]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("data/run/1.mp4", "data/walk/2.mp4"), ["run", "walk"]),
        (("train/run/1.mp4", "train/walk/2.mp4"), ["run", "walk"]),
        (("a/b/run/1.mp4", "a/b/walk/deep/2.mp4"), ["run", "walk"]),
        (("data/train/run/1.mp4", "data/val/run/2.mp4"), ["run"]),
        (("run/1.mp4", "run/2.mp4"), ["run"]),
        (("run/1.mp4", "run/deep/2.mp4"), ["run"]),
        (("run/deep/1.mp4", "walk/deep/2.mp4"), ["run", "walk"]),
    ],
)
def test_a_folder_around_the_labels_is_none(
    tmp_path: Path, names: tuple[str, ...], labels: list[str]
) -> None:
    assert folder.list_folder(touch(tmp_path, *names)).labels == labels


def test_lists_do_not_hang_on_the_order_of_files(tmp_path: Path) -> None:
    names = [f"{label}/{i}.mp4" for label in "abc" for i in range(10)]
    first = folder.list_folder(touch(tmp_path / "x", *names))
    second = folder.list_folder(touch(tmp_path / "y", *reversed(names)))
    for split in SPLITS:
        assert [item.id for item in first.splits[split]] == [
            item.id for item in second.splits[split]
        ]
    mixed = [item.label for item in first.splits["train"]]
    assert mixed not in (sorted(mixed), sorted(mixed, reverse=True))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no clips and no images. Expected are clips"),
        (("note.txt", ".hidden.mp4", ".git/x.png"), "holds no clips and no images"),
        (("a/only.mp4", "b/note.txt"), "a/only.mp4 is the only file to train on: at least 2 are"),
    ],
)
def test_too_little_is_one_clear_line(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError) as error:
        load(touch(tmp_path / "clips", *names), "train", tmp_path / "data")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
