"""Folders that define the splits: at any depth, by any of their names, and by links."""

from pathlib import Path

import pytest
from footage import touch

from data_builders import listing
from data_builders.video_folder import folder
from flowvid import paths
from flowvid.errors import DataError


def contents(root: Path) -> dict[str, dict[str, str]]:
    """The labels of the files of each split that are used."""
    splits = folder.list_folder(root).splits
    return {
        split: {item.id: item.label for item in items if not item.reason}
        for split, items in splits.items()
    }


# For each case: the files, and the labels of those of train, validation and test.
NESTED = {
    "in each label": (
        ("run/train/1.mp4", "run/val/2.mp4", "walk/train/3.mp4", "walk/val/4.mp4"),
        {"run/train/1.mp4": "run", "walk/train/3.mp4": "walk"},
        {"run/val/2.mp4": "run", "walk/val/4.mp4": "walk"},
        {},
    ),
    "in a folder around the labels": (
        ("all/run/train/1.mp4", "all/run/dev/2.mp4", "all/walk/train/x/3.mp4"),
        {"all/run/train/1.mp4": "run", "all/walk/train/x/3.mp4": "walk"},
        {"all/run/dev/2.mp4": "run"},
        {},
    ),
    "in one label of several": (
        ("a/train/1.mp4", "a/val/2.mp4", "b/3.mp4", "b/4.mp4"),
        {"a/train/1.mp4": "unlabelled"},
        {"a/val/2.mp4": "unlabelled"},
        {},
    ),
    "beside more": (
        ("data/train/run/1.mp4", "data/val/walk/2.mp4", "data/test/run/3.mp4", "extra/run/4.mp4"),
        {"data/train/run/1.mp4": "run"},
        {"data/val/walk/2.mp4": "walk"},
        {"data/test/run/3.mp4": "run"},
    ),
    "at several depths": (
        ("train/run/1.mp4", "val/run/2.mp4", "walk/val/3.mp4", "walk/train/4.mp4"),
        {"train/run/1.mp4": "run", "walk/train/4.mp4": "walk"},
        {"val/run/2.mp4": "run", "walk/val/3.mp4": "walk"},
        {},
    ),
    "a label that is called train": (
        ("train/bus/1.mp4", "train/train/2.mp4", "val/train/3.mp4"),
        {"train/bus/1.mp4": "bus", "train/train/2.mp4": "train"},
        {"val/train/3.mp4": "train"},
        {},
    ),
}


@pytest.mark.parametrize("case", NESTED)
def test_folders_define_the_splits_at_any_depth(tmp_path: Path, case: str) -> None:
    names, *expected = NESTED[case]
    found = contents(touch(tmp_path, *names))
    assert [found.get(split, {}) for split in ("train", "validation", "test")] == expected
    listed = {name for split in found.values() for name in split}
    beside = "beside the folders train/, validation/ and test/"
    assert folder.list_folder(tmp_path).ignored == [
        (name, beside) for name in names if name not in listed
    ]


# For each case: the folders, and the splits of the file in each.
CALLED = {
    "training, validation, testing": ("train", "validation", "test"),
    "Train, Val, TEST": ("train", "validation", "test"),
    "train, valid": ("train", "validation"),
    "train, dev, test": ("train", "validation", "test"),
    "train, eval": ("train", "validation"),
    "train, evaluation, test": ("train", "validation", "test"),
    "train, dev, eval": ("train", "validation", "test"),
}


@pytest.mark.parametrize("case", CALLED)
def test_names_of_splits(tmp_path: Path, case: str) -> None:
    tops = case.split(", ")
    touch(tmp_path, *(f"{top}/{i}.mp4" for top in tops for i in range(2)))
    splits = folder.list_folder(tmp_path).splits
    assert {split: {item.id.split("/")[0] for item in splits[split]} for split in splits} == {
        split: {top} for top, split in zip(tops, CALLED[case], strict=True)
    }


# For each case: the files, links within the folder, and what the error says.
REFUSED = {
    "no train beside it": (
        ("train/1.mp4", "bus/test/2.mp4"),
        {},
        "holds the folder bus/test/, but no folder train/ beside it",
    ),
    "two splits of one file": (
        ("walk/train/val/1.mp4", "walk/val/2.mp4"),
        {},
        "walk/train/val/1.mp4 in .* is in the folders of two splits, train/ and val/: move it",
    ),
    "two splits of one file, and no other": (
        ("train/run/1.mp4", "train/walk/val/2.mp4"),
        {},
        "train/walk/val/2.mp4 in .* is in the folders of two splits, train/ and val/: move it",
    ),
    "a broken link": (
        ("train/1.mp4", "train/2.mp4"),
        {"val": "gone"},
        r"val/ in .* be used for validation: val \(a symbolic link to nothing\)\. Put clips",
    ),
    "a broken link out of the folder": (
        ("train/1.mp4", "train/2.mp4"),
        {"val": "../gone"},
        r"val/ in .* be used for validation: val \(a symbolic link to nothing\)\. Put clips",
    ),
    "a broken link to train": (
        ("val/1.mp4", "val/2.mp4"),
        {"train": "gone"},
        r"train/ in .* be used for train: train \(a symbolic link to nothing\)\. Put clips",
    ),
    "one split that is another": (
        ("train/a/1.mp4", "train/a/2.mp4"),
        {"val": "train"},
        r"The same file is in two splits of .*: train/a/1.mp4 \(train\) and val/a/1.mp4 "
        r"\(validation\) \(and 1 more\)\. Remove one",
    ),
    "a clip of another split": (
        ("val/1.mp4", "test/2.mp4", "train/3.mp4"),
        {"test/x.mp4": "../val/1.mp4"},
        r"of .*: val/1.mp4 \(validation\) and test/x.mp4 \(test\)\. Remove one",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_mix_splits_is_refused(tmp_path: Path, case: str) -> None:
    names, links, message = REFUSED[case]
    root = touch(tmp_path / "clips", *names)
    for name, target in links.items():
        (root / name).symlink_to(target)
    with pytest.raises(DataError, match=message) as error:
        folder.list_folder(root)
    assert "\n" not in str(error.value)


def test_one_file_by_hard_links_in_two_splits_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.mp4", "val/2.mp4")
    (tmp_path / "val/3.mp4").hardlink_to(tmp_path / "train/1.mp4")
    message = r"train/1.mp4 \(train\) and val/3.mp4 \(validation\)\. Remove"
    with pytest.raises(DataError, match=message):
        folder.list_folder(tmp_path)


def test_links_to_a_pool_beside_the_splits_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "pool/a/1.mp4", "pool/b/2.mp4", "train/c/3.mp4", "val/c/4.mp4")
    (tmp_path / "train/a").symlink_to("../pool/a")
    (tmp_path / "val/b").symlink_to("../pool/b")
    (tmp_path / "val/b again").symlink_to("../pool/b")
    assert contents(tmp_path) == {
        "train": {"train/a/1.mp4": "a", "train/c/3.mp4": "c"},
        "validation": {"val/b again/2.mp4": "b again", "val/c/4.mp4": "c"},
    }
    ignored = folder.list_folder(tmp_path).ignored
    assert {name for name, _ in ignored} == {"pool/a/1.mp4", "pool/b/2.mp4"}
    skipped = [i for items in folder.list_folder(tmp_path).splits.values() for i in items if i[4]]
    assert [(i.id, i.reason) for i in skipped] == [
        ("val/b/2.mp4", "the same file as val/b again/2.mp4")
    ]


def test_one_file_of_several_names_is_in_one_split_of_a_hash(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.mp4" for i in range(30)))
    for i in range(30):
        (tmp_path / f"{i}_again.mp4").hardlink_to(tmp_path / f"{i}.mp4")
    assert sum(map(len, contents(tmp_path).values())) == 30


def test_output_that_is_called_like_a_split_is_none(tmp_path: Path) -> None:
    touch(tmp_path, "run/1.mp4", "walk/2.mp4", "test/samples.gif")
    (tmp_path / "test" / paths.MARKER).touch()
    assert folder.list_folder(tmp_path).labels == ["run", "walk"]
    assert folder.list_folder(tmp_path).ignored == [("test/", listing.WRITTEN)]
