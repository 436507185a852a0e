"""Preparing a small archive of the shape of Moments in Time, good clips and bad."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_builders.moments_in_time import archive
from data_builders.moments_in_time import moments_in_time_dataset_builder as moments
from flowvid import media

BAD_CLIPS = {
    "zooming/empty.mp4": "Invalid data",
    "zooming/text.mp4": "Invalid data",
    "bowing/short.mp4": "29 frames, but 30 are needed",
    "bowing/missing.mp4": "No such file",
}


def write_clip(path: Path, num_frames: int, level: int) -> None:
    media.write_video(path, np.full((num_frames, 96, 128, 3), level, np.uint8), scale=1)


def write_list(path: Path, filenames: list[str]) -> None:
    path.write_text("".join(f"{name},{name.split('/')[0]},3,0\n" for name in filenames))


@pytest.fixture(scope="module")
def archive_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels in another order than the alphabet's; three good clips, four bad, one unlisted."""
    root = tmp_path_factory.mktemp("archive")
    write_clip(root / "training/zooming/good.mp4", 33, 50)
    write_clip(root / "training/bowing/good.mp4", 30, 100)
    write_clip(root / "training/bowing/short.mp4", 29, 100)
    write_clip(root / "training/bowing/unlisted.mp4", 30, 100)
    (root / "training/zooming/empty.mp4").write_bytes(b"")
    (root / "training/zooming/text.mp4").write_text("no video\n" * 50)
    write_clip(root / "validation/zooming/good.mp4", 30, 150)
    write_list(root / "trainingSet.csv", ["zooming/good.mp4", "bowing/good.mp4", *BAD_CLIPS])
    write_list(root / "validationSet.csv", ["zooming/good.mp4"])
    (root / "moments_categories.txt").write_text("adding,2\nzooming,0\nbowing,1\n")
    return root


@pytest.fixture
def root(archive_once: Path, tmp_path: Path) -> Path:
    """A copy of the archive, for a test to change."""
    return shutil.copytree(archive_once, tmp_path / "archive")


def prepare(root: Path, data_dir: Path) -> moments.Builder:
    builder = moments.Builder(data_dir=data_dir)
    config = tfds.download.DownloadConfig(manual_dir=root)
    builder.download_and_prepare(download_config=config)
    return builder


def test_good_clips_are_prepared_and_bad_ones_named(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="absl"):
        builder = prepare(root, tmp_path / "data")
    assert "train: 2 prepared + 4 skipped = 6 listed" in caplog.text
    assert "validation: 1 prepared + 0 skipped = 1 listed" in caplog.text

    assert builder.info.features["label"].names == ["zooming", "bowing", "adding"]
    train = {record["id"].decode(): record for record in builder.as_data_source("train")}
    assert {name: record["label"] for name, record in train.items()} == {
        "zooming/good.mp4": 0,
        "bowing/good.mp4": 1,
    }
    for name, level in (("zooming/good.mp4", 50), ("bowing/good.mp4", 100)):
        assert train[name]["video"].shape == (30, 64, 64, 3)
        assert np.abs(train[name]["video"].astype(int) - level).max() <= 2
    (validation,) = builder.as_data_source("validation")
    assert np.abs(validation["video"].astype(int) - 150).max() <= 2

    with (Path(builder.data_dir) / "skipped.tsv").open(newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    assert header == ["split", "path", "reason"]
    assert [row[:2] for row in rows] == [
        ["train", str(root / "training" / name)] for name in BAD_CLIPS
    ]
    for (_, _, reason), expected in zip(rows, BAD_CLIPS.values(), strict=True):
        assert expected in reason


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (list(BAD_CLIPS), r"None of the 4 clips listed for train .*empty\.mp4: not readable"),
        ([], "None of the 0 clips listed for train could be prepared"),
    ],
)
def test_a_split_of_which_nothing_is_left_is_an_error(
    root: Path, tmp_path: Path, listed: list[str], message: str
) -> None:
    write_list(root / "trainingSet.csv", listed)
    with pytest.raises(archive.ArchiveError, match=message):
        prepare(root, tmp_path / "data")


@pytest.mark.parametrize("exists", [True, False])
def test_an_empty_or_missing_folder_says_what_to_do(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "nothing"
    if exists:
        folder.mkdir()
    with pytest.raises(
        AssertionError, match=r"does not exist or is empty.(.|\n)*Ask for the archi"
    ):
        prepare(folder, tmp_path / "data")


@pytest.mark.parametrize("name", ["moments_categories.txt", "trainingSet.csv", "validationSet.csv"])
def test_a_missing_file_is_named_with_the_layout(root: Path, tmp_path: Path, name: str) -> None:
    (root / name).unlink()
    with pytest.raises(archive.ArchiveError, match=f"{name} is missing.(.|\n)*--manual_dir"):
        prepare(root, tmp_path / "data")


def test_a_folder_without_clips_is_named(root: Path) -> None:
    (root / "validation/zooming/good.mp4").unlink()
    with pytest.raises(archive.ArchiveError, match="validation is missing or holds no clips"):
        archive.list_clips(root, "validation")


@pytest.mark.parametrize("rows", ["zooming,0\nbowing,2\n", "zooming,1\nbowing,2\n", "a,0\nb,x\n"])
def test_indices_must_be_consecutive(root: Path, rows: str) -> None:
    (root / "moments_categories.txt").write_text(rows)
    with pytest.raises(archive.ArchiveError, match=r"2 labels, but none with index [01]"):
        archive.read_labels(root)


def test_an_unknown_label_is_named(root: Path) -> None:
    write_list(root / "trainingSet.csv", ["flying/a.mp4", "zooming/good.mp4"])
    with pytest.raises(archive.ArchiveError, match="does not list: flying; add"):
        archive.list_clips(root, "train")


def test_a_row_cut_short_is_named(root: Path) -> None:
    (root / "trainingSet.csv").write_text("zooming/good.mp4,zooming,3,0\n\nbowing/good.mp4\n")
    with pytest.raises(archive.ArchiveError, match=r"row 2: \['bowing/good\.mp4'\] has fewer"):
        archive.list_clips(root, "train")
