"""Folders and zip files of one's own clips or images: what is listed, prepared, and kept."""

import contextlib
import csv
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from data_builders import files
from data_builders.video_folder import folder
from data_builders.video_folder import video_folder_dataset_builder as video_folder
from flowvid.data import datasets
from flowvid.errors import DataError

CODECS = {".mp4": "libx264", ".mov": "libx264", ".mkv": "ffv1", ".webm": "libvpx-vp9"} | {
    ".avi": "mpeg4",
    ".gif": "gif",
}
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


def write_clip(path: Path, level: int, num_frames: int = 4) -> None:
    """A clip of grey frames, 32 x 24, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    with av.open(str(path), "w", format={".mkv": "matroska"}.get(suffix, suffix[1:])) as container:
        stream: Any = container.add_stream(CODECS[suffix], rate=10)
        stream.width, stream.height = 32, 24
        stream.pix_fmt = "rgb8" if suffix == ".gif" else "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), level, np.uint8), format="rgb24")
        for _ in range(num_frames):
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode())


def write_image(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 12), (level, level, level)).save(path)


def touch(root: Path, *names: str) -> Path:
    """Empty files: enough for a list, which opens no clip."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def load(path: str | Path, split: str, data_dir: Path, **wanted: Any) -> datasets.Dataset:
    wanted = {"num_frames": 4, "image_size": 8, **wanted}
    return datasets.load(str(path), split, data_dir=data_dir, **wanted)


def load_all(path: str | Path, data_dir: Path, **wanted: Any) -> dict[str, dict[str, Any]]:
    """The examples of both splits by their ids."""
    splits = [load(path, split, data_dir, **wanted) for split in ("train", "validation")]
    items = [split[index] for split in splits for index in range(len(split))]
    return {item["id"]: item for item in items}


def prepared_in(data_dir: Path) -> set[str]:
    return {path.parent.name for path in data_dir.glob("video_folder/*/1.0.0")}


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes here, without the seconds that processes take to start."""

    def decode_all(decode: Callable, items: list[files.Item], processes: int) -> Iterator:
        return ((item, decode(item)) for item in items)

    monkeypatch.setattr(files, "decode_in_parallel", decode_all)


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function that lets nothing be decoded from then on."""

    def forbid() -> None:
        def fail(*args: Any) -> Iterator:
            raise AssertionError("decoded again")

        monkeypatch.setattr(files, "decode_in_parallel", fail)

    return forbid


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
    (records,) = data_dir.glob("video_folder/*/1.0.0")
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
    title, *summaries = printed.splitlines()
    assert title.startswith("Preparing /")
    assert title.endswith(f" in {records}, once.")
    assert [line.split(":")[0] for line in summaries] == ["train", "validation"]
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
        assert labels == ("a\tb", "caf\\udce9", "naïve 📼")
        assert len(examples) == 6
        for level, label in ((40, "naïve 📼"), (80, "caf\\udce9"), (120, "a\tb")):
            for name in ("1.mkv", "\\udcff.mkv"):
                example = examples[f"{label}/{name}"]
                assert labels[example["label"]] == label
                assert np.abs(example["video"].astype(int) - level).max() <= 3


# Prepared once, and again when something has changed.


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder with a space in its name, and four clips in it."""
    for name in ("run/a.mkv", "run/b.mkv", "walk/c.mkv", "walk/d.mkv"):
        write_clip(tmp_path / "my clips" / name, 90)
    return tmp_path / "my clips"


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


def test_where_nothing_is_left_the_file_is_named(tmp_path: Path, in_process: None) -> None:
    touch(tmp_path / "clips", "a.mp4", "b.mp4")
    with pytest.raises(DataError, match=r"nothing is left.*such as [ab]\.mp4\)\. Mend these files"):
        load(tmp_path / "clips", "train", tmp_path / "data", max_skipped=1.0)


# Listing: labels and splits.


def ids(items: list[files.Item]) -> set[str]:
    return {item.id for item in items}


def labels_of(root: Path) -> dict[str, str]:
    listing = folder.list_folder(root)
    return {item.id: item.label for items in listing.splits.values() for item in items}


def test_a_tenth_is_held_out_and_stays_so(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{'ab'[i % 2]}/{i}.mp4" for i in range(300)))
    before = folder.list_folder(tmp_path).splits
    assert len(before["train"]) + len(before["validation"]) == 300
    assert 20 <= len(before["validation"]) <= 40
    touch(tmp_path, *(f"c/{i}.mp4" for i in range(300)))
    after = folder.list_folder(tmp_path).splits
    assert len(after["train"]) + len(after["validation"]) == 600
    for split in ("train", "validation"):
        assert ids(before[split]) < ids(after[split])


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_at_least_one_is_on_each_side(tmp_path: Path, count: int) -> None:
    for start in range(20):  # other names, other hashes
        root = touch(tmp_path / str(start), *(f"{start}_{i}.mp4" for i in range(count)))
        splits = folder.list_folder(root).splits
        assert min(len(items) for items in splits.values()) >= 1
        assert sum(len(items) for items in splits.values()) == count
        assert not ids(splits["train"]) & ids(splits["validation"])


def test_no_stray_clip_is_the_one_held_out(tmp_path: Path) -> None:
    rank = {f"{i}.mp4": files.position(f"{i}.mp4", folder.HOLD_OUT_SEED) for i in range(100)}
    stray = min(rank, key=lambda name: rank[name])
    splits = folder.list_folder(touch(tmp_path, stray, "a/1.mp4", "b/2.mp4")).splits
    assert len(splits["validation"]) == 1
    assert not splits["validation"][0].reason
    (skipped,) = (item for item in splits["train"] if item.reason)
    assert (skipped.id, skipped.reason[:25]) == (stray, "stands beside the folders")
    with pytest.raises(DataError, match=r"a/1\.mp4 is the only file: at least 2 are needed"):
        folder.list_folder(touch(tmp_path / "x", "0.mp4", "1.mp4", "a/1.mp4"))


@pytest.mark.parametrize(
    ("train", "validation"),
    [("train", "validation"), ("training", "val"), ("Train", "Valid"), ("train", "test")],
)
def test_splits_of_ones_own(tmp_path: Path, train: str, validation: str) -> None:
    touch(tmp_path, f"{train}/run/1.mp4", f"{train}/walk/2.mp4", f"{validation}/run/3.mp4")
    listing = folder.list_folder(tmp_path)
    assert listing.labels == ["run", "walk"]
    assert ids(listing.splits["train"]) == {f"{train}/run/1.mp4", f"{train}/walk/2.mp4"}
    assert ids(listing.splits["validation"]) == {f"{validation}/run/3.mp4"}
    assert set(labels_of(tmp_path).values()) == {"run", "walk"}


def test_a_test_split_is_left_alone_where_there_is_validation(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.mp4", "validation/2.mp4", "test/3.mp4")
    splits = folder.list_folder(tmp_path).splits
    assert [ids(splits[split]) for split in ("train", "validation")] == [
        {"train/1.mp4"},
        {"validation/2.mp4"},
    ]


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
    for split in ("train", "validation"):
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
        (("a/only.mp4", "b/note.txt"), "a/only.mp4 is the only file: at least 2 are needed"),
    ],
)
def test_too_little_is_one_clear_line(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError) as error:
        load(touch(tmp_path, *names), "train", tmp_path / "data")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# Images.

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


def zipped(root: Path, path: Path, top: str = "") -> Path:
    """A zip file of a folder, with what a Mac adds; `top` is put before each name."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/cat/1.png", b"")
        for name in sorted(root.rglob("*")):
            archive.write(name, top + str(name.relative_to(root)))
    return path


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
    assert "train: 3 prepared + 1 skipped (25.0%) = 4 listed" in capsys.readouterr().out
    (report,) = (tmp_path / "data").glob("video_folder/*/1.0.0/skipped-train.tsv")
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
    assert labels_of(tmp_path) == {"a/1.mp4": "a", "b/2.mp4": "b"}


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
    with pytest.raises(DataError, match=r"images\.zip is no zip file that can be read") as error:
        load(path, "train", tmp_path / "data", num_frames=1)
    assert "\n" not in str(error.value)
