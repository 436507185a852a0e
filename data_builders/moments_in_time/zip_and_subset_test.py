"""Archives as zip files, version 2's class list, and the subset of the size of Mini."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from moments_archive import config, examples, prepare, ramp, skipped, write_list

from data_builders.moments_in_time import archive, subset
from flowvid.errors import DataError

pytest_plugins = ["moments_archive"]


def zipped(root: Path, folder: Path, top: str = "Moments_in_Time_Raw/") -> Path:
    """Writes Moments_in_Time_Raw_v2.zip, the only file in a new folder; returns the folder."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "Moments_in_Time_Raw_v2.zip", "w") as file:
        for path in sorted(root.rglob("*")):
            file.write(path, top + str(path.relative_to(root)))
    return folder


# Zip files.


def test_a_zip_file_gives_the_same_records_as_its_folder(root: Path, tmp_path: Path) -> None:
    names = ["zooming/a.mp4", "bowing/b.mp4", "bowing/missing.mp4", "flying/a.mp4"]
    write_list(root / "trainingSet.csv", names)
    unpacked = prepare(root, tmp_path / "unpacked")
    read = prepare(zipped(root, tmp_path / "zipped"), tmp_path / "read")
    assert read.info.features["label"].names == unpacked.info.features["label"].names
    for split in ("train", "validation"):
        expected, found = examples(unpacked, split), examples(read, split)
        assert {name: label for name, (label, _) in found.items()} == {
            name: label for name, (label, _) in expected.items()
        }
        for name, (_, video) in found.items():
            np.testing.assert_array_equal(video, expected[name][1])
    assert skipped(read) == skipped(unpacked)
    assert skipped(read) == [
        ["bowing/missing.mp4", "no such file"],
        ["flying/a.mp4", "unknown label 'flying'"],
    ]


@pytest.mark.parametrize("top", ["", "Moments_in_Time_Raw/"])
def test_in_a_zip_file_folders_are_enough(root: Path, tmp_path: Path, top: str) -> None:
    for name in ("moments_categories.txt", "trainingSet.csv", "validationSet.csv"):
        (root / name).unlink()
    (root / "training/bowing/notes.txt").write_text("no clip")
    found = archive.find_root(str(zipped(root, tmp_path / "zipped", top)))
    assert archive.read_labels(found) == ["adding", "bowing", "zooming"]
    items = archive.list_clips(found, "train")
    assert {(item.id, item.label, item.reason) for item in items} == {
        ("zooming/a.mp4", "zooming", ""),
        ("bowing/b.mp4", "bowing", ""),
        ("bowing/unlisted.mp4", "bowing", ""),
    }


def test_a_changed_zip_file_is_listed_again(root: Path, tmp_path: Path) -> None:
    found = archive.find_root(str(zipped(root, tmp_path / "zipped")))
    (first,) = archive.list_clips(found, "validation")
    Path(found).unlink()
    (tmp_path / "zipped").rmdir()
    (root / "training/bowing/unlisted.mp4").unlink()
    zipped(root, tmp_path / "zipped")
    (second,) = archive.list_clips(found, "validation")
    assert first.id == second.id
    assert first.member is not None
    assert second.member is not None
    assert first.member.header_offset > second.member.header_offset


def test_an_unpacked_archive_beside_its_zip_file_is_read(root: Path, tmp_path: Path) -> None:
    folder = zipped(root, tmp_path / "both")
    root.rename(folder / "Moments_in_Time_Raw")
    assert archive.find_root(str(folder)).name == "Moments_in_Time_Raw"


def test_zip_files_without_an_archive_are_named(root: Path, tmp_path: Path) -> None:
    folder = zipped(root / "training", tmp_path / "zipped", "only/")
    with pytest.raises(DataError, match=r"v2\.zip has no training/"):
        archive.read_labels(archive.find_root(str(folder)))
    (folder / "Moments_in_Time_Raw_v2.zip").write_text("cut off")
    with pytest.raises(DataError, match=r"v2\.zip is not a readable zip file"):
        archive.read_labels(archive.find_root(str(folder)))
    (folder / "another.zip").touch()
    with pytest.raises(DataError, match="holds 2 archives, give one of them"):
        archive.find_root(str(folder))


def test_the_path_of_a_zip_file_is_refused_with_what_to_give(root: Path, tmp_path: Path) -> None:
    path = zipped(root, tmp_path / "zipped") / "Moments_in_Time_Raw_v2.zip"
    with pytest.raises(DataError, match=r"v2\.zip is a file: give the folder that it is in as --m"):
        prepare(path, tmp_path / "data")


def test_a_zip_file_without_validation_is_named(root: Path, tmp_path: Path) -> None:
    (root / "validation/zooming/v.mp4").unlink()
    (root / "validation/zooming").rmdir()
    (root / "validation").rmdir()
    found = archive.find_root(str(zipped(root, tmp_path / "zipped")))
    with pytest.raises(DataError, match=r"v2\.zip/validation is missing"):
        archive.list_clips(found, "validation")


# Class lists.


def test_classes_may_be_listed_without_their_indices(root: Path) -> None:
    (root / "moments_categories.txt").write_text("zooming\nbowing\n\nadding\n")
    assert archive.read_labels(archive.find_root(str(root))) == ["zooming", "bowing", "adding"]
    (root / "moments_categories.txt").write_text("zooming\nbowing\nzooming\n")
    with pytest.raises(DataError, match=r"row 3: \['zooming', '2'\] is not label,index, both of"):
        archive.read_labels(archive.find_root(str(root)))


# The subset.


@pytest.fixture
def many(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lists of five labels, and a subset of 2 labels with 3 training and 2 validation clips each.

    `few` has too few clips for training, `adding` for validation. `zooming` and `tying` have
    equally many clips for training.
    """
    monkeypatch.setattr(subset, "NUM_LABELS", 2)
    monkeypatch.setattr(subset, "NUM_CLIPS", {"train": 3, "validation": 2})
    train = {"zooming": 6, "bowing": 7, "adding": 9, "tying": 6, "few": 2}
    validation = {"zooming": 4, "bowing": 2, "adding": 1, "tying": 3, "few": 5}
    (root / "moments_categories.txt").write_text(
        "".join(f"{label},{9 - number}\n" for number, label in enumerate(train))
    )
    write_list(root / "trainingSet.csv", names_of(train))
    write_list(root / "validationSet.csv", names_of(validation))
    return root


def names_of(counts: dict[str, int]) -> list[str]:
    return [f"{label}/{number}.mp4" for label, count in counts.items() for number in range(count)]


def first_of(label: str, listed: int, count: int) -> set[str]:
    """The clips of a label with the smallest SHA-256, as the documentation says it."""
    names = [f"{label}/{number}.mp4" for number in range(listed)]
    return set(sorted(names, key=lambda n: hashlib.sha256(f"0/{n}".encode()).digest())[:count])


def ids(root: Path, kind: str = "archive") -> dict[str, set[str]]:
    lists = archive.splits(archive.find_root(str(root)), kind, is_subset=True)
    items = {split: list_items() for split, list_items in lists.items()}
    assert all(len({item.id for item in listed}) == len(listed) for listed in items.values())
    return {split: {item.id for item in listed} for split, listed in items.items()}


def test_the_subset_is_fixed_by_counts_and_hashes_of_names(many: Path) -> None:
    found = archive.find_root(str(many))
    assert archive.labels(found, is_subset=True) == ["tying", "bowing"]
    assert archive.labels(found, is_subset=False) == ["few", "tying", "adding", "bowing", "zooming"]
    expected = {
        "train": first_of("bowing", 7, 3) | first_of("tying", 6, 3),
        "validation": first_of("bowing", 2, 2) | first_of("tying", 3, 2),
    }
    assert ids(many) == expected
    for name in ("trainingSet.csv", "validationSet.csv"):  # the order of the rows is irrelevant
        rows = (many / name).read_text().splitlines(keepends=True)
        (many / name).write_text("".join(reversed(rows)))
    assert ids(many) == expected


def test_rows_that_are_skipped_do_not_count_for_the_subset(many: Path) -> None:
    expected = ids(many)
    with (many / "trainingSet.csv").open("a") as file:
        file.write("zooming/0.mp4,zooming,3,0\nzooming/1.mp4,zooming,3,0\n/zooming/9.mp4,zooming\n")
    assert ids(many) == expected


def test_the_papers_split_of_the_subset_is_of_its_training_clips(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "HELD_OUT", 0.5)
    own, paper = ids(many), ids(many, "paper")
    assert paper["train"] | paper["validation"] == own["train"]
    assert not paper["train"] & paper["validation"]


def test_an_archive_that_is_too_small_for_the_subset_is_refused(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subset, "NUM_LABELS", 4)
    message = r"has 3 labels with at least 3 train and 2 validation clips, but the subset needs 4"
    with pytest.raises(DataError, match=message):
        archive.labels(archive.find_root(str(many)), is_subset=True)


def test_the_subset_has_the_size_of_mini() -> None:
    assert subset.NUM_LABELS * subset.NUM_CLIPS["train"] == 100_000
    assert subset.NUM_LABELS * subset.NUM_CLIPS["validation"] == 10_000


def test_the_subset_is_prepared_from_a_zip_file(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subset, "NUM_LABELS", 1)
    monkeypatch.setattr(subset, "NUM_CLIPS", {"train": 1, "validation": 1})
    folder = zipped(root, tmp_path / "zipped")
    builder = prepare(folder, tmp_path / "data", config(name="subset", subset=True))
    assert builder.info.features["label"].names == ["zooming"]  # bowing has none for validation
    ((name, (label, video)),) = examples(builder, "train").items()
    assert (name, label) == ("zooming/a.mp4", 0)
    assert np.abs(video - ramp(50, 30, 16, 16).astype(int)).max() <= 2
    assert list(examples(builder, "validation")) == ["zooming/v.mp4"]
