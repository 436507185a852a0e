"""Splits of folders: by a hash of the names or by folders, and never one in place of another."""

from pathlib import Path

import pytest
from footage import touch

from data_builders import listing
from data_builders.video_folder import folder
from flowvid.errors import DataError


def ids(items: list[listing.Item]) -> set[str]:
    return {item.id for item in items}


def labels_of(root: Path) -> dict[str, str]:
    listing = folder.list_folder(root)
    return {item.id: item.label for items in listing.splits.values() for item in items}


# Splits by a hash.

SPLITS = ("train", "validation", "test")


def test_a_tenth_each_is_held_out_and_stays_so(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{'ab'[i % 2]}/{i}.mp4" for i in range(300)))
    listing = folder.list_folder(tmp_path)
    before = listing.splits
    assert listing.hashed == {"validation", "test"}
    assert sum(len(before[split]) for split in SPLITS) == 300
    assert len(set.union(*(ids(before[split]) for split in SPLITS))) == 300
    for split in ("validation", "test"):
        assert 20 <= len(before[split]) <= 40
    touch(tmp_path, *(f"c/{i}.mp4" for i in range(300)))
    after = folder.list_folder(tmp_path).splits
    assert sum(len(after[split]) for split in SPLITS) == 600
    for split in SPLITS:
        assert ids(before[split]) < ids(after[split])


def test_the_hash_of_a_name_selects_its_split(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.mp4" for i in range(100)))
    splits = folder.list_folder(tmp_path).splits
    places = {
        s: [listing.position(name, folder.SPLIT_SEED) for name in ids(splits[s])] for s in SPLITS
    }
    assert max(places["validation"]) < 0.1 <= min(places["test"])
    assert max(places["test"]) < 0.2 <= min(places["train"])


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_small_folders_have_training_and_validation_files(tmp_path: Path, count: int) -> None:
    with_test = 0
    for start in range(40):  # other names, other hashes
        root = touch(tmp_path / str(start), *(f"{start}_{i}.mp4" for i in range(count)))
        splits = folder.list_folder(root).splits
        assert {"train", "validation"} <= set(splits) <= set(SPLITS)
        assert min(len(items) for items in splits.values()) >= 1
        assert sum(len(items) for items in splits.values()) == count
        assert len(set.union(*(ids(items) for items in splits.values()))) == count
        with_test += "test" in splits
    assert with_test < 40
    assert (with_test > 0) == (count > 2)


def test_the_only_training_file_is_not_used_for_testing(tmp_path: Path) -> None:
    names = (f"{i}.mp4" for i in range(1000))
    for_test = [n for n in names if 0.1 <= listing.position(n, folder.SPLIT_SEED) < 0.2][:3]
    splits = folder.list_folder(touch(tmp_path, *for_test)).splits
    assert {split: len(items) for split, items in splits.items()} == dict.fromkeys(SPLITS, 1)


def test_no_stray_clip_is_the_one_held_out(tmp_path: Path) -> None:
    rank = {f"{i}.mp4": listing.position(f"{i}.mp4", folder.SPLIT_SEED) for i in range(100)}
    stray = min(rank, key=lambda name: rank[name])
    splits = folder.list_folder(touch(tmp_path, stray, "a/1.mp4", "b/2.mp4")).splits
    assert len(splits["validation"]) == 1
    assert not splits["validation"][0].reason
    (skipped,) = (item for item in splits["train"] if item.reason)
    assert (skipped.id, skipped.reason[:25]) == (stray, "stands beside the folders")
    with pytest.raises(DataError, match=r"a/1\.mp4 is the only file to train on: at least 2 are"):
        folder.list_folder(touch(tmp_path / "x", "0.mp4", "1.mp4", "a/1.mp4"))


# Splits by folders.


@pytest.mark.parametrize(
    ("train", "validation"), [("train", "validation"), ("training", "val"), ("Train", "Valid")]
)
def test_folders_define_the_splits(tmp_path: Path, train: str, validation: str) -> None:
    touch(tmp_path, f"{train}/run/1.mp4", f"{train}/walk/2.mp4", f"{validation}/run/3.mp4")
    listing = folder.list_folder(tmp_path)
    assert listing.labels == ["run", "walk"]
    assert listing.splits.keys() == {"train", "validation"}
    assert ids(listing.splits["train"]) == {f"{train}/run/1.mp4", f"{train}/walk/2.mp4"}
    assert ids(listing.splits["validation"]) == {f"{validation}/run/3.mp4"}
    assert set(labels_of(tmp_path).values()) == {"run", "walk"}


def test_without_a_folder_for_it_there_is_no_test_split(tmp_path: Path) -> None:
    names = [f"{i}.mp4" for i in range(100)]
    touch(tmp_path, *(f"{top}/{name}" for top in ("train", "validation") for name in names))
    listing = folder.list_folder(tmp_path)
    assert listing.hashed == frozenset()
    assert {split: ids(items) for split, items in listing.splits.items()} == {
        split: {f"{split}/{name}" for name in names} for split in ("train", "validation")
    }


def test_a_folder_may_hold_the_test_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.mp4", "val/2.mp4", "Test/3.mp4")
    splits = folder.list_folder(tmp_path).splits
    assert {split: ids(items) for split, items in splits.items()} == {
        "train": {"train/1.mp4"},
        "validation": {"val/2.mp4"},
        "test": {"Test/3.mp4"},
    }


def test_the_test_split_never_stands_in_for_validation(tmp_path: Path) -> None:
    names = [f"{i}.mp4" for i in range(100)]
    touch(tmp_path, *(f"{top}/{name}" for top in ("train", "test") for name in names))
    listing = folder.list_folder(tmp_path)
    assert listing.hashed == {"validation"}
    assert ids(listing.splits["test"]) == {f"test/{name}" for name in names}
    held_out = ids(listing.splits["validation"])
    assert held_out | ids(listing.splits["train"]) == {f"train/{name}" for name in names}
    assert not held_out & ids(listing.splits["train"])
    assert 3 <= len(held_out) <= 20


def test_files_beside_the_folders_of_the_splits_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.mp4", "validation/2.mp4", "more/3.mp4", "4.mp4", "train.mp4")
    listing = folder.list_folder(tmp_path)
    beside = "beside the folders train/, validation/ and test/"
    assert set(listing.ignored) == {(n, beside) for n in ("more/3.mp4", "4.mp4", "train.mp4")}
    assert sum(len(items) for items in listing.splits.values()) == 2


def test_without_a_file_to_train_on_the_reason_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.mp4", "test/run/2.mp4")
    with pytest.raises(DataError, match=r"no file to train on: train/1\.mp4 stands beside the"):
        folder.list_folder(tmp_path)


OUT = "a symbolic link that leads out of the dataset"
# For each case: files, links out of the folder, and what the error says.
MEANT_AS_SPLITS = {
    "train leads out": (
        ("val/a/1.mp4", "val/b/2.mp4"),
        ("train",),
        rf"train/ in .* train: .*[(]{OUT}",
    ),
    "val leads out": (("train/a/1.mp4",), ("val",), rf"val/ in .* validation: .*[(]{OUT}"),
    "a label of val leads out": (("train/a/1.mp4",), ("val/a",), rf"val/ in .*: .*[(]{OUT}"),
    "no train": (("val/a/1.mp4", "val/b/2.mp4"), (), "holds the folder val/, but no folder train/"),
    "no train, but others": (("cat/1.mp4", "test/2.mp4"), (), "holds the folder test/, but no fol"),
    "no train below": (("data/val/a/1.mp4",), (), "holds the folder data/val/, but no fol"),
    "images beside clips": (
        ("train/1.mp4", "val/2.png"),
        (),
        "val/ in .*[(]an image beside clips",
    ),
    "words": (("train/1.mp4", "val/2.txt"), (), "val/ in .*: .*[(]neither a clip nor an image"),
    "below a folder": (("x/train/1.mp4", "x/val/2.txt"), (), "val/ in .*: .*[(]neither a clip"),
    "empty": (("train/1.mp4", "val/.x"), (), "val/ in .* can be used for validation: .*[(]hidden"),
}


@pytest.mark.parametrize("case", MEANT_AS_SPLITS)
def test_a_split_never_falls_into_another(tmp_path: Path, case: str) -> None:
    names, links, message = MEANT_AS_SPLITS[case]
    root = touch(tmp_path / "clips", *names)
    touch(tmp_path, "outside/a/5.mp4", "outside/b/6.mp4")
    for name in links:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match=message) as error:
        folder.list_folder(root)
    assert "\n" not in str(error.value)


def test_an_empty_folder_of_a_split_is_named(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/1.mp4")
    (root / "test").mkdir()
    with pytest.raises(DataError, match=r"test/ in .* can be used for test: it is empty"):
        folder.list_folder(root)
