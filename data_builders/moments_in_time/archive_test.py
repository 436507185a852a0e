"""Reading the archive: its folders, lists and labels, and the paper's split."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from moments_archive import config, examples, prepare, ramp, skipped, write_clip, write_list

from data_builders import files, listing
from data_builders.moments_in_time import archive
from flowvid.errors import DataError

pytest_plugins = ["moments_archive"]


# The archive's shape.


def test_folders_are_enough_also_one_folder_deeper(root: Path, tmp_path: Path) -> None:
    for name in ("moments_categories.txt", "trainingSet.csv", "validationSet.csv"):
        (root / name).unlink()
    shutil.copytree(root / "training/bowing", root / "training/bowing/deep/.hidden")
    shutil.copy(root / "training/zooming/a.mp4", root / "training/bowing/deep/c.MP4")
    shutil.copy(root / "training/zooming/a.mp4", root / "training/beside.mp4")
    (root / "training/bowing/notes.txt").touch()
    (root / "training/bowing/folder.mp4").mkdir()
    os.mkfifo(root / "training/bowing/pipe.mp4")
    (root / "training/.git").mkdir()
    (tmp_path / "outer").mkdir()
    root.rename(tmp_path / "outer" / "Moments_in_Time_Raw")
    builder = prepare(tmp_path / "outer", tmp_path / "data")
    assert builder.info.features["label"].names == ["adding", "bowing", "zooming"]
    assert {name: label for name, (label, _) in examples(builder, "train").items()} == {
        "zooming/a.mp4": 2,
        "bowing/b.mp4": 1,
        "bowing/unlisted.mp4": 1,
        "bowing/deep/c.MP4": 1,
    }
    assert skipped(builder) == [
        ["beside.mp4", "unknown label 'beside.mp4'"],
        ["bowing/pipe.mp4", "not a file"],
    ]


def test_an_archive_is_found_where_it_is(root: Path) -> None:
    assert os.fspath(archive.find_root(str(root))) == str(root)
    assert os.fspath(archive.find_root(str(root.parent))) == str(root)
    shutil.copytree(root, root.parent / "second")
    with pytest.raises(DataError, match="holds 2 archives, give one of them"):
        archive.find_root(str(root.parent))
    with pytest.raises(DataError, match=r"has no training/\.\n(.|\n)*--manual_dir"):
        archive.find_root(str(root / "validation"))


@pytest.mark.parametrize("exists", [True, False])
def test_an_empty_or_missing_folder_says_what_to_do(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "nothing"
    if exists:
        folder.mkdir()
    message = r"does not exist or is empty.(.|\n)*Request the arch"
    with pytest.raises(AssertionError, match=message):
        prepare(folder, tmp_path / "data")


def test_a_missing_validation_folder_names_the_other_split(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "validation")
    with pytest.raises(DataError, match=r"validation is missing; .*--config=64x64_30f_paper_split"):
        prepare(root, tmp_path / "data")


def test_a_split_without_clips_is_named_before_anything_is_decoded(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "validationSet.csv").write_text("\n")
    monkeypatch.setattr(files, "decode_in_parallel", None)
    with pytest.raises(DataError, match=r"holds no clips, or its list validationSet\.csv is empty"):
        prepare(root, tmp_path / "data")


@pytest.mark.parametrize(
    ("rows", "number"),
    [
        ("zooming,0\nbowing,0\n", 2),
        ("zooming,0\nzooming,1\n", 2),
        ("zooming\nbowing,1\n", 1),
        ("zooming,0\n\nbowing,x\n", 2),
        ("zooming,-1\n", 1),
    ],
)
def test_bad_categories_are_named(root: Path, rows: str, number: int) -> None:
    (root / "moments_categories.txt").write_text(rows)
    with pytest.raises(DataError, match=rf"categories\.txt, row {number}: \[.*\] is not label,ind"):
        archive.read_labels(archive.find_root(str(root)))


def test_lists_may_begin_with_a_byte_order_mark(root: Path) -> None:
    for name in ("moments_categories.txt", "trainingSet.csv"):
        (root / name).write_bytes(b"\xef\xbb\xbf" + (root / name).read_bytes())
    found = archive.find_root(str(root))
    assert sorted(archive.read_labels(found)) == ["adding", "bowing", "zooming"]
    assert {item.id for item in archive.list_clips(found, "train")} == {
        "zooming/a.mp4",
        "bowing/b.mp4",
    }


def test_a_quote_that_nothing_closes_is_named(root: Path) -> None:
    (root / "trainingSet.csv").write_text('"zooming/a.mp4,zooming,3,0\nbowing/b.mp4,bowing,3,0\n')
    with pytest.raises(DataError, match=r"trainingSet\.csv, line 2: no CSV .*; fix it"):
        archive.list_clips(archive.find_root(str(root)), "train")


def test_labels_need_not_be_utf8(root: Path) -> None:
    (root / "training/bowing").rename(root / "training/caf\udce9")
    for name in ("moments_categories.txt", "trainingSet.csv"):
        (root / name).unlink()
    found = archive.find_root(str(root))
    assert archive.read_labels(found) == ["adding", "caf\\udce9", "zooming"]
    items = archive.list_clips(found, "train")
    assert all(Path(item.path).exists() and not item.reason for item in items)
    assert {item.label for item in items} == {"caf\\udce9", "zooming"}


# The paper's split.


def paper_ids(root: Path) -> tuple[set[str], set[str]]:
    splits = archive.splits(archive.find_root(str(root)), "paper")
    train, validation = ({item.id for item in splits[s]()} for s in ("train", "validation"))
    return train, validation


def test_the_papers_split_is_disjoint_and_stable(root: Path) -> None:
    names = [f"zooming/{number}.mp4" for number in range(3000)]
    write_list(root / "trainingSet.csv", names[:2000])
    train, validation = paper_ids(root)
    assert train | validation == set(names[:2000])
    assert not train & validation
    assert 5 <= len(validation) <= 40  # 1% of 2,000, within 3 standard deviations and more
    write_list(root / "trainingSet.csv", names[::-1])
    more_train, more_validation = paper_ids(root)
    assert more_train >= train
    assert more_validation > validation


def test_the_papers_split_is_prepared_from_the_training_clips(root: Path, tmp_path: Path) -> None:
    def is_held_out(name: str) -> bool:
        return listing.position(name, archive.HOLD_OUT_SEED) < archive.HELD_OUT

    numbered = (f"zooming/{number}.mp4" for number in range(10_000))
    held_out = next(name for name in numbered if is_held_out(name))
    write_clip(root / "training" / held_out, 200)
    write_list(root / "trainingSet.csv", ["zooming/a.mp4", "bowing/b.mp4", held_out])
    shutil.rmtree(root / "validation")  # not looked at
    (root / "validationSet.csv").unlink()
    builder = prepare(root, tmp_path / "data", config(name="paper", split="paper"))
    assert set(examples(builder, "train")) == {"zooming/a.mp4", "bowing/b.mp4"}
    ((name, (_, video)),) = examples(builder, "validation").items()
    assert name == held_out
    assert np.abs(video - ramp(200, 30, 16, 16).astype(int)).max() <= 2


def test_an_empty_split_of_the_paper_is_an_error(root: Path) -> None:
    with pytest.raises(DataError, match="1% of them is none: no validation split"):
        paper_ids(root)
