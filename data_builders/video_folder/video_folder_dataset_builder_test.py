"""Preparing folders of clips: the records, the reports, and what makes it happen again."""

import contextlib
import csv
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from footage import load, load_all, prepared_in, touch, write_clip

from data_builders import files, listing
from data_builders.video_folder import folder
from data_builders.video_folder import video_folder_dataset_builder as video_folder
from flowvid.data import datasets
from flowvid.errors import DataError

pytest_plugins = ["footage"]

# Clips of one grey level each, by their names.
LEVELS = {
    "run/a.mp4": 40,
    "run/b.MOV": 60,
    "run/deeper/still/c.mkv": 80,
    "walk/d 1.webm": 100,
    "walk/e.AVI": 120,
    "walk/f.gif": 255,  # one of the few greys that GIF's colours hold
}
LABELS = {name: name.split("/")[0] for name in LEVELS}


# Preparing.


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """Good clips among all sorts of files: the TFDS folder, the examples, what was printed."""
    root = tmp_path_factory.mktemp("clips")
    for name, level in LEVELS.items():
        write_clip(root / name, level)
    write_clip(root / "run/short.mp4", 200, num_frames=3)
    write_clip(root / "stray.mp4", 200)
    touch(root, "run/.hidden.mp4", ".trash/run/g.mp4", "run/._a.mp4", "run/note.txt", "poster.png")
    data_dir = tmp_path_factory.mktemp("data")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        examples = load_all(root, data_dir)
    return data_dir, examples, printed.getvalue()


def test_clips_of_all_formats_are_prepared(prepared: tuple[Path, dict[str, Any], str]) -> None:
    _, examples, _ = prepared
    assert examples.keys() == LEVELS.keys()
    for name, example in examples.items():
        assert example["video"].shape == (4, 8, 8, 3)
        assert np.abs(example["video"].astype(int) - LEVELS[name]).max() <= 3, name
        assert ["run", "walk"][example["label"]] == LABELS[name]


def test_what_is_left_out_is_reported_and_printed(
    prepared: tuple[Path, dict[str, Any], str],
) -> None:
    data_dir, examples, printed = prepared
    (records,) = data_dir.glob("video_folder/*/1.2.0")
    rows = []
    for split in ("train", "validation"):
        with (records / f"skipped-{split}.tsv").open(newline="") as file:
            header, *more = csv.reader(file, delimiter="\t")
        assert header == ["path", "reason"]
        rows += more
    assert sorted(rows) == [
        ["run/short.mp4", "3 frames, but 4 are needed"],
        ["stray.mp4", "stands beside the folders of labels: move it into one"],
    ]
    title, ignored, of_test, *summaries = printed.splitlines()
    assert ignored == (
        "ignored: run/note.txt (neither a clip nor an image by its ending); "
        "poster.png (an image beside clips: images are used where there are no clips)"
    )
    assert title.startswith("Preparing /")
    assert title.endswith(f" in {records}, once.")
    assert [line.split(":")[0] for line in summaries] == ["train", "validation"]
    assert of_test.startswith("test: no such split, since the folder is small: none of the file")
    numbers = [[int(word) for word in line.split() if word.isdecimal()] for line in summaries]
    assert [sum(column) for column in zip(*numbers, strict=True)] == [6, 2, 8]
    assert len(examples) == 6


def test_a_folder_without_labels(tmp_path: Path, in_process: None) -> None:
    for name, level in (("a.mp4", 40), ("b.mkv", 80), ("c.avi", 120)):
        write_clip(tmp_path / "clips" / name, level)
    train = load(tmp_path / "clips", "train", tmp_path / "data")
    assert train.label_names == ("unlabelled",)
    examples = load_all(tmp_path / "clips", tmp_path / "data")
    assert {name: int(item["label"]) for name, item in examples.items()} == {
        "a.mp4": 0,
        "b.mkv": 0,
        "c.avi": 0,
    }


def test_names_may_hold_any_bytes(tmp_path: Path, in_process: None) -> None:
    for label, level in (("naïve 📼", 40), (os.fsdecode(b"caf\xe9"), 80), ("a\tb", 120)):
        write_clip(tmp_path / "clip.mkv", level)
        for name in ("1.mkv", os.fsdecode(b"\xff.mkv")):
            (tmp_path / "clips" / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "clips" / label / name).write_bytes((tmp_path / "clip.mkv").read_bytes())
    for _ in range(2):  # as prepared, and as found again
        examples = load_all(tmp_path / "clips", tmp_path / "data")
        labels = load(tmp_path / "clips", "train", tmp_path / "data").label_names
        assert labels == ("a\\tb", "caf\\udce9", "naïve 📼")
        assert len(examples) == 6
        for level, label in ((40, "naïve 📼"), (80, "caf\\udce9"), (120, "a\\tb")):
            for name in ("1.mkv", "\\udcff.mkv"):
                example = examples[f"{label}/{name}"]
                assert labels[example["label"]] == label
                assert np.abs(example["video"].astype(int) - level).max() <= 3


# Prepared once, and again when something has changed.


def test_records_are_prepared_once_however_the_folder_is_named(
    clips: Path,
    tmp_path: Path,
    in_process: None,
    no_decoding: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    (tmp_path / "link").symlink_to(clips)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    load_all(clips, tmp_path / "data")
    assert "Preparing" in capsys.readouterr().out
    no_decoding()
    for name in ("my clips", "./my clips/", "~/my clips", "link", f"{clips}/../my clips"):
        assert len(load_all(name, tmp_path / "data")) == 4, name
    assert len(prepared_in(tmp_path / "data")) == 1
    assert capsys.readouterr().out == ""


def test_a_new_clip_makes_new_records_beside_the_old(
    clips: Path, tmp_path: Path, in_process: None
) -> None:
    before = load(clips, "train", tmp_path / "data")
    old = prepared_in(tmp_path / "data")
    write_clip(clips / "jump/e.mkv", 90)
    examples = load_all(clips, tmp_path / "data")
    assert len(examples) == 5
    assert load(clips, "train", tmp_path / "data").label_names == ("jump", "run", "walk")
    assert old < prepared_in(tmp_path / "data")
    assert [before[index]["video"].shape for index in range(3)] == [(4, 8, 8, 3)] * 3

    (clips / "jump/e.mkv").unlink()  # as it was before
    assert len(load_all(clips, tmp_path / "data")) == 4
    assert len(prepared_in(tmp_path / "data")) == 2


def grow(clips: Path) -> None:
    path = clips / "run/a.mkv"
    stat = path.stat()
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


CHANGES = {
    "added": lambda clips: touch(clips, "run/e.mkv"),
    "removed": lambda clips: (clips / "run/a.mkv").unlink(),
    "renamed": lambda clips: (clips / "run/a.mkv").rename(clips / "run/z.mkv"),
    "relabelled": lambda clips: (clips / "run/a.mkv").rename(clips / "walk/a.mkv"),
    "another time": lambda clips: os.utime(clips / "run/a.mkv", ns=(1, 1)),
    "another size": grow,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_gives_records_of_another_name(clips: Path, change: Callable) -> None:
    before = video_folder.config_of(clips, 4, 8, 0.5).name
    touch(clips, "run/note.txt", "run/.hidden.mkv", "run/poster.png")
    assert video_folder.config_of(clips, 4, 8, 0.5).name == before
    change(clips)
    assert video_folder.config_of(clips, 4, 8, 0.5).name != before


def test_sizes_lengths_and_places_are_prepared_apart(
    clips: Path, tmp_path: Path, in_process: None
) -> None:
    for num_frames, image_size in ((4, 8), (4, 12), (2, 8)):
        wanted = {"num_frames": num_frames, "image_size": image_size}
        for example in load_all(clips, tmp_path / "data", **wanted).values():
            assert example["video"].shape == (num_frames, image_size, image_size, 3)
    assert len(prepared_in(tmp_path / "data")) == 3
    (tmp_path / "elsewhere").mkdir()
    load_all(clips.rename(tmp_path / "elsewhere" / clips.name), tmp_path / "data")
    assert len(prepared_in(tmp_path / "data")) == 4


def test_more_than_half_skipped_is_an_error_unless_allowed(
    tmp_path: Path, in_process: None
) -> None:
    root = touch(tmp_path / "clips", *(f"train/run/bad{index}.mp4" for index in range(4)))
    for name in ("train/run/1.mkv", "train/walk/2.mkv", "train/walk/3.mkv", "validation/run/4.mkv"):
        write_clip(root / name, 90)
    with pytest.raises(DataError, match=r"^train: 3 prepared \+ 4 skipped .*: too many") as error:
        load(root, "train", tmp_path / "data")
    assert "(4, such as train/run/bad0.mp4)" in str(error.value)
    assert "--max_skipped of flowvid.train" in str(error.value)
    assert "\n" not in str(error.value)
    assert not prepared_in(tmp_path / "data")
    assert len(load(root, "train", tmp_path / "data", max_skipped=1.0)) == 3


def test_a_folder_for_the_test_split_is_prepared(
    tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture
) -> None:
    for level, name in enumerate(("train/a.mkv", "val/b.mkv", "test/c.mkv", "other/d.mkv")):
        write_clip(tmp_path / "clips" / name, 50 * (1 + level))
    test = load(tmp_path / "clips", "test", tmp_path / "data")
    assert [test[index]["id"] for index in range(len(test))] == ["test/c.mkv"]
    assert np.abs(test[0]["video"].astype(int) - 150).max() <= 3
    beside = "beside the folders train/, validation/ and test/"
    assert f"\nignored: other/d.mkv ({beside})\n" in capsys.readouterr().out


def test_without_a_folder_for_it_the_test_split_is_absent(
    tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture
) -> None:
    for name in ("train/a.mkv", "validation/b.mkv"):
        write_clip(tmp_path / "clips" / name, 50)
    sizes: Any = {"data_dir": tmp_path / "data", "num_frames": 4, "image_size": 8}
    path = str(tmp_path / "clips")
    assert not datasets.has_split(path, "test", **sizes)
    assert datasets.has_split(path, "validation", **sizes)
    assert (
        capsys.readouterr().out.count("no such split, since there is no folder test/ beside") == 1
    )
    with pytest.raises(DataError, match=r"no examples in split 'test'; it has 1 in 'train', 1 in"):
        load(path, "test", tmp_path / "data")


def test_damaged_files_alone_leave_the_test_split_empty(tmp_path: Path, in_process: None) -> None:
    names = [f"{i}.mkv" for i in range(200)]
    place = {name: listing.position(name, folder.SPLIT_SEED) for name in names}
    for_test = [name for name in names if 0.1 <= place[name] < 0.2][:2]
    for name in [name for name in names if place[name] < 0.1 or place[name] > 0.9][:8]:
        write_clip(tmp_path / "clips" / name, 50)
    touch(tmp_path / "clips", *for_test)
    assert len(load_all(tmp_path / "clips", tmp_path / "data")) == 8
    (report,) = (tmp_path / "data").glob("video_folder/*/1.2.0/summary-test.txt")
    assert report.read_text() == "test: 0 prepared + 2 skipped (100.0%) = 2 listed\n"

    whole = tmp_path / "with a folder"
    for name in ("train/a.mkv", "validation/b.mkv"):
        write_clip(whole / name, 50)
    touch(whole, "test/c.mkv")
    with pytest.raises(DataError, match=r"^test: 0 prepared \+ 1 skipped .*: nothing is left"):
        load(whole, "train", tmp_path / "data")


def test_where_nothing_is_left_the_file_is_named(tmp_path: Path, in_process: None) -> None:
    touch(tmp_path / "clips", "a.mp4", "b.mp4")
    with pytest.raises(
        DataError, match=r"nothing is left.*such as [ab]\.mp4\)\. Fix or remove these"
    ):
        load(tmp_path / "clips", "train", tmp_path / "data", max_skipped=1.0)


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_folder_that_changes_while_it_is_prepared_is_refused(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Otherwise the records of the changed folder would be named after the unchanged one."""
    config = video_folder.config_of(clips, 4, 8, 0.5)
    builder = video_folder.Builder(data_dir=tmp_path / "data", config=config)

    def decode_all(decode: Callable, items: list[listing.Item], processes: int) -> Iterator:
        grow(clips)
        return ((item, decode(item)) for item in items)

    monkeypatch.setattr(files, "decode_in_parallel", decode_all)
    if when == "before":
        grow(clips)
    with pytest.raises(
        DataError, match=r"my clips changed while they were being prepared: run the"
    ):
        builder.download_and_prepare()
    assert not prepared_in(tmp_path / "data")
    assert not list((tmp_path / "data").glob("**/incomplete.*"))
