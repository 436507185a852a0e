"""Folders and zip files of images, and zip files of clips."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from footage import load, load_all, touch, write_image, zipped

from data_builders.video_folder import folder
from data_builders.video_folder import video_folder_dataset_builder as video_folder
from flowvid.errors import DataError

pytest_plugins = ["footage"]

IMAGE_LEVELS = {"cat/1.png": 30, "cat/2.JPG": 60, "dog/big/3.jpeg": 90, "dog/4.PNG": 120}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled images, a damaged one, and hidden files."""
    root = tmp_path_factory.mktemp("pictures")
    for name, level in IMAGE_LEVELS.items():
        write_image(root / name, level)
    whole = (root / "cat/1.png").read_bytes()
    (root / "dog/cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("cat/.5.png", "__MACOSX/cat/._1.png", ".Trash/6.png", "cat/readme.md"):
        touch(root, name)
    return root


@pytest.mark.parametrize("kind", ["folder", "zip", "zip of one folder"])
def test_images_are_clips_of_one_frame(
    pictures: Path, tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture, kind: str
) -> None:
    top = "pictures/" if kind == "zip of one folder" else ""
    path = pictures if kind == "folder" else zipped(pictures, tmp_path / "pictures.zip", top)
    examples = load_all(path, tmp_path / "data", num_frames=1)
    assert examples.keys() == {top + name for name in IMAGE_LEVELS}
    for name, level in IMAGE_LEVELS.items():
        example = examples[top + name]
        assert example["video"].shape == (1, 8, 8, 3)
        assert np.abs(example["video"].astype(int) - level).max() <= 3
        assert ["cat", "dog"][example["label"]] == name.split("/")[0]
    lines = re.findall(
        r"(\d+) prepared \+ (\d+) skipped .* = (\d+) listed", capsys.readouterr().out
    )
    assert [sum(map(int, column)) for column in zip(*lines, strict=True)] == [4, 1, 5]
    (report,) = (tmp_path / "data").glob("video_folder/*/1.2.0/skipped-train.tsv")
    assert f"{top}dog/cut.png\tnot readable as an image" in report.read_text()


def test_a_zip_file_may_hold_clips(clips: Path, tmp_path: Path, in_process: None) -> None:
    examples = load_all(zipped(clips, tmp_path / "clips.zip"), tmp_path / "data")
    assert examples.keys() == {"run/a.mkv", "run/b.mkv", "walk/c.mkv", "walk/d.mkv"}
    for example in examples.values():
        assert np.abs(example["video"].astype(int) - 90).max() <= 3


def test_images_without_labels(tmp_path: Path, in_process: None) -> None:
    for index in range(3):
        write_image(tmp_path / "flat" / f"{index}.png", 50 * index)
    path = zipped(tmp_path / "flat", tmp_path / "flat.zip")
    for source in (tmp_path / "flat", path):
        train = load(source, "train", tmp_path / "data", num_frames=1)
        assert (len(train), train.label_names) == (2, ("unlabelled",))


def test_where_there_are_clips_images_are_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "a/1.jpg", "b/2.mp4", "thumbnail.png")
    listing = folder.list_folder(tmp_path)
    assert not listing.are_images
    found = {item.id: item.label for items in listing.splits.values() for item in items}
    assert found == {"a/1.mp4": "a", "b/2.mp4": "b"}


def test_a_changed_zip_file_is_prepared_again(tmp_path: Path, pictures: Path) -> None:
    path = zipped(pictures, tmp_path / "pictures.zip")
    before = video_folder.config_of(path, 1, 8, 0.5).name
    assert video_folder.config_of(zipped(pictures, path), 1, 8, 0.5).name == before
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("cat/new.png", b"")
    assert video_folder.config_of(path, 1, 8, 0.5).name != before


def test_more_frames_than_an_image_has_are_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"single images, but 4 frames .* use --num_frames=1,"):
        load(pictures, "train", tmp_path)


@pytest.mark.parametrize("content", [b"", b"no zip file", b"PK\x03\x04 cut off"])
def test_what_is_no_zip_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"images\.zip is not a readable zip file") as error:
        load(path, "train", tmp_path / "data", num_frames=1)
    assert "\n" not in str(error.value)
