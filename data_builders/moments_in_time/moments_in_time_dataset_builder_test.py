"""Preparing archives like Moments in Time: every file ends as a record or in a report."""

import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import tensorflow_datasets as tfds
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image

from data_builders import files
from data_builders.moments_in_time import archive
from data_builders.moments_in_time import moments_in_time_dataset_builder as moments
from flowvid.data import datasets, media, tfds_records
from flowvid.errors import DataError

ROOT = Path(__file__).parents[2]


def config(**fields: Any) -> moments.MomentsInTimeConfig:
    return moments.MomentsInTimeConfig(**{"image_size": 16} | fields)


SMALL = config(name="small")
TOLERANT = config(name="tolerant", max_skipped=1)


def ffmpeg(*args: Any) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, args)]
    subprocess.run(command, check=True)


def ramp(level: int, num_frames: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Flat frames, each one grey level brighter than the one before."""
    levels = (level + np.arange(num_frames)).astype(np.uint8)[:, None, None, None]
    return np.broadcast_to(levels, (num_frames, height, width, 3))


def write_clip(path: Path, level: int, num_frames: int = 33, **size: int) -> None:
    media.write_video(path, ramp(level, num_frames, **size), scale=1)


def write_list(path: Path, names: list[str]) -> None:
    """One row a clip, quoted where needed; names may hold any bytes."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([name, name.split("/")[0], 3, 0] for name in names)


def prepare(
    root: Path, data_dir: Path, config: Any = SMALL, **options: Any
) -> tfds.core.DatasetBuilder:
    """Options are those of DownloadConfig."""
    builder = moments.Builder(data_dir=data_dir, config=config)
    download_config = tfds.download.DownloadConfig(manual_dir=root, **options)
    builder.download_and_prepare(download_config=download_config)
    return builder


def examples(builder: tfds.core.DatasetBuilder, split: str) -> dict[str, tuple[int, np.ndarray]]:
    """Each example's label and video, by id."""
    source = builder.as_data_source(split)
    found = {record["id"].decode(): (record["label"], record["video"]) for record in source}
    assert len(found) == len(source)
    return found


def reports(builder: tfds.core.DatasetBuilder) -> dict[str, str]:
    folder = Path(builder.data_dir)
    found = [*folder.glob("skipped-*"), *folder.glob("summary-*")]
    return {path.name: path.read_text() for path in found}


def skipped(builder: tfds.core.DatasetBuilder, split: str = "train") -> list[list[str]]:
    """The rows [id, reason] of a report."""
    with (Path(builder.data_dir) / f"skipped-{split}.tsv").open(newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    assert header == ["path", "reason"]
    return rows


# A small archive, for tests that change it.


@pytest.fixture(scope="module")
def archive_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels in another order than the alphabet's, with gaps; three clips, one of them listed."""
    root = tmp_path_factory.mktemp("archive")
    write_clip(root / "training/zooming/a.mp4", 50)
    write_clip(root / "training/bowing/b.mp4", 100)
    write_clip(root / "training/bowing/unlisted.mp4", 100)
    write_clip(root / "validation/zooming/v.mp4", 150)
    (root / "training/adding").mkdir()
    write_list(root / "trainingSet.csv", ["zooming/a.mp4", "bowing/b.mp4"])
    write_list(root / "validationSet.csv", ["zooming/v.mp4"])
    (root / "moments_categories.txt").write_text("adding,17\nzooming,0\nbowing,5\n")
    return root


@pytest.fixture
def root(archive_once: Path, tmp_path: Path) -> Path:
    """A copy of the archive, for a test to change."""
    return shutil.copytree(archive_once, tmp_path / "archive")


# An archive with every kind of file, which is prepared once.

# By id: the first frame's grey level.
GOOD = {
    "zooming/plain.mp4": 20,
    "zooming/long.mp4": 25,
    "zooming/uneven.mp4": 30,
    "zooming/turned.mp4": 40,
    "bowing/odd.mp4": 50,
    "bowing/tall.mp4": 60,
    "bowing/wide.mp4": 70,
    "bowing/with space, and comma.mp4": 80,
    'bowing/it\'s "quoted".mp4': 90,
    "zooming/ünïcode 🎬.mp4": 100,
    "zooming/new\nline.mp4": 110,
    "zooming/caf\\udce9.mp4": 120,  # its name is not UTF-8
    "zooming/title.mp4": 130,  # nor is its title
    "zooming/link.mp4": 20,
}
# By id: the reason, or how it begins.
BAD = {
    "zooming/empty.mp4": "an empty file",
    "zooming/cut off.mp4": "not readable as video (",
    "zooming/text.mp4": "not readable as video (Invalid data",
    "zooming/sound.mp4": "no video stream",
    "zooming/one.mp4": "1 frames, but 30 are needed",
    "bowing/short.mp4": "29 frames, but 30 are needed",
    "bowing/huge.gif": "8200x4100 pixels, but at most 33554432 are read",
    "bowing/outside.mp4": "a symbolic link that leads out of the data set's folder",
    "bowing/loop.mp4": "not a file",
    "bowing/folder.mp4": "not a file",
    "bowing/pipe.mp4": "not a file",
    "bowing/missing.mp4": "no such file",
    "flying/a.mp4": "unknown label 'flying'",
    "zooming/../../outside.mp4": "its path leads out of the archive",
    "/etc/hostname": "its path leads out of the archive",
    "zooming/alone.mp4": "its row has fewer than 2 columns",
}


def make_everything(root: Path) -> None:
    """Writes an archive with every clip of GOOD and BAD, one of them listed twice."""
    zooming, bowing = root / "training/zooming", root / "training/bowing"
    for name in ("plain", "ünïcode 🎬", "new\nline", "caf\udce9"):
        write_clip(zooming / f"{name}.mp4", GOOD[files.printable(f"zooming/{name}.mp4")])
    for name in ("with space, and comma", 'it\'s "quoted"'):
        write_clip(bowing / f"{name}.mp4", GOOD[f"bowing/{name}.mp4"])
    write_clip(bowing / "tall.mp4", GOOD["bowing/tall.mp4"], height=96, width=20)
    write_clip(bowing / "wide.mp4", GOOD["bowing/wide.mp4"], height=20, width=96)
    media.write_video(root / "odd.gif", ramp(50, 33, 33, 47), scale=1)
    ffmpeg("-i", root / "odd.gif", "-pix_fmt", "yuv444p", bowing / "odd.mp4")
    # 5,000 frames, of which 30 are read.
    first, plain = root / "first.mp4", zooming / "plain.mp4"
    write_clip(first, GOOD["zooming/long.mp4"], 100)
    ffmpeg("-stream_loop", 49, "-i", first, "-c", "copy", zooming / "long.mp4")
    for name, before, after in (
        ("uneven", [], ["-vf", "setpts='if(lt(N,9),N,N*7)/10/TB'", "-fps_mode", "vfr"]),
        ("turned", ["-display_rotation", "90"], ["-c", "copy"]),
        ("title", [], ["-c", "copy", "-metadata", "title=caf\udce9"]),
    ):
        write_clip(first, GOOD[f"zooming/{name}.mp4"])
        ffmpeg(*before, "-i", first, *after, zooming / f"{name}.mp4")
    (zooming / "link.mp4").symlink_to("plain.mp4")

    (zooming / "empty.mp4").touch()
    (zooming / "cut off.mp4").write_bytes(plain.read_bytes()[:-2000])
    (zooming / "text.mp4").write_text("no video\n" * 50)
    with wave.open(str(root / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    ffmpeg("-i", root / "sound.wav", zooming / "sound.mp4")
    write_clip(zooming / "one.mp4", 0, 1)
    write_clip(bowing / "short.mp4", 0, 29)
    huge = root / "small.gif"
    Image.new("P", (8, 8)).save(huge)
    size = np.array([8200, 4100], "<u2").tobytes()  # the header alone says so
    (bowing / "huge.gif").write_bytes(huge.read_bytes()[:6] + size + huge.read_bytes()[10:])
    shutil.copy(plain, root.parent / "outside.mp4")
    (bowing / "outside.mp4").symlink_to(root.parent / "outside.mp4")
    (bowing / "loop.mp4").symlink_to("loop.mp4")
    (bowing / "folder.mp4").mkdir()
    os.mkfifo(bowing / "pipe.mp4")
    shutil.copy(plain, zooming / "alone.mp4")
    (root / "training/flying").mkdir()
    shutil.copy(plain, root / "training/flying/a.mp4")

    names = [name.replace("\\udce9", "\udce9") for name in (*GOOD, *BAD)]
    names.remove("zooming/alone.mp4")
    write_list(root / "trainingSet.csv", [*names, "zooming/plain.mp4"])
    with (root / "trainingSet.csv").open("a") as file:
        file.write("\nzooming/alone.mp4\n")
    write_clip(root / "validation/zooming/v.mp4", 150)
    write_list(root / "validationSet.csv", ["zooming/v.mp4"])
    (root / "moments_categories.txt").write_text("adding,17\nzooming,0\nbowing,5\n")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("everything") / "archive"
    make_everything(root)
    return root


@pytest.fixture(scope="module")
def prepared(everything: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return prepare(everything, tmp_path_factory.mktemp("prepared"), TOLERANT)


def test_every_listed_clip_is_prepared_or_in_the_report(prepared: Any) -> None:
    listed, bad = len(GOOD) + len(BAD) + 1, len(BAD) + 1
    assert reports(prepared)["summary-train.txt"] == (
        f"train: {len(GOOD)} prepared + {bad} skipped ({100 * bad / listed:.1f}%) = "
        f"{listed} listed\n"
    )
    rows = skipped(prepared)
    assert [name for name, _ in rows] == sorted([*BAD, "zooming/plain.mp4"])
    for name, reason in rows:
        expected = BAD.get(name, "listed before")
        assert reason.startswith(expected) if expected.endswith("(") else expected in reason
    assert reports(prepared)["summary-validation.txt"] == (
        "validation: 1 prepared + 0 skipped (0.0%) = 1 listed\n"
    )
    assert skipped(prepared, "validation") == []


def test_records_hold_the_first_frames(prepared: Any) -> None:
    train = examples(prepared, "train")
    assert set(train) == set(GOOD)
    for name, (label, video) in train.items():
        assert label == ("bowing" in name), name
        assert video.shape == (30, 16, 16, 3)
        assert np.abs(video - ramp(GOOD[name], 30, 16, 16).astype(int)).max() <= 2, name
    ((name, (label, video)),) = examples(prepared, "validation").items()
    assert (name, label) == ("zooming/v.mp4", 0)
    assert np.abs(video - ramp(150, 30, 16, 16).astype(int)).max() <= 2


def test_labels_keep_the_order_of_the_archive(prepared: Any) -> None:
    assert prepared.info.features["label"].names == ["zooming", "bowing", "adding"]


def test_beam_prepares_the_same(everything: Path, prepared: Any, tmp_path: Path) -> None:
    flags = ["runner=DirectRunner", "direct_num_workers=2", "direct_running_mode=multi_processing"]
    options = PipelineOptions([f"--{flag}" for flag in flags])
    builder = prepare(everything, tmp_path, TOLERANT, beam_options=options)
    assert reports(builder) == reports(prepared)
    assert len(reports(builder)) == 4
    for split in ("train", "validation"):
        expected = examples(prepared, split)
        found = examples(builder, split)
        assert {n: (label, v.tobytes()) for n, (label, v) in found.items()} == {
            n: (label, v.tobytes()) for n, (label, v) in expected.items()
        }
    assert builder.info.features["label"].names == prepared.info.features["label"].names


# Shards.


def test_a_shard_may_lose_all_its_clips(root: Path, tmp_path: Path) -> None:
    break_clips(root, good=2, bad=2)
    builder = prepare(root, tmp_path / "data", num_shards=5)
    assert sorted(builder.info.splits["train"].shard_lengths) == [0, 0, 1, 1]  # one a listed clip
    assert set(examples(builder, "train")) == {"zooming/0.mp4", "zooming/1.mp4"}
    folder = tmp_path / "data"
    name = "moments_in_time/small"
    dataset = datasets.load(name, "train", data_dir=folder, num_frames=30, image_size=16)
    videos = [dataset[index]["video"] for index in range(len(dataset))]
    assert [video.shape for video in videos] == [(30, 16, 16, 3)] * 2


def test_shards_hold_even_shares_of_what_is_listed(root: Path, tmp_path: Path) -> None:
    break_clips(root, good=7, bad=0)
    builder = prepare(root, tmp_path / "data", num_shards=3)
    assert builder.info.splits["train"].shard_lengths == [2, 2, 3]
    assert len(examples(builder, "train")) == 7


def test_a_build_may_be_capped(root: Path, tmp_path: Path) -> None:
    break_clips(root, good=3, bad=0)
    builder = prepare(root, tmp_path / "data", max_examples_per_split=2)
    assert reports(builder)["summary-train.txt"].endswith("= 2 listed\n")
    assert len(examples(builder, "train")) == 2


# Too little is left.


def break_clips(root: Path, good: int, bad: int) -> None:
    """Lists so many good and so many bad clips for training."""
    names = [f"zooming/{number}.mp4" for number in range(good + bad)]
    for name in names[:good]:
        shutil.copy(root / "training/zooming/a.mp4", root / "training" / name)
    for name in names[good:]:
        (root / "training" / name).write_text("no video\n" * 50)
    write_list(root / "trainingSet.csv", names)


@pytest.mark.parametrize(
    "options", [{}, {"beam_options": PipelineOptions(["--runner=DirectRunner"])}]
)
def test_too_many_skipped_is_an_error(root: Path, tmp_path: Path, options: Any) -> None:
    break_clips(root, good=2, bad=3)
    message = (
        r"train: 2 prepared \+ 3 skipped \(60\.0%\) = 5 listed: too many\. Most often: "
        r"not readable as video \(Invalid data.*\) \(3, such as zooming/2\.mp4\)\. "
        r".*raise max_skipped"
    )
    with pytest.raises(DataError, match=message):
        prepare(root, tmp_path / "data", **options)
    assert tfds_records.below(tmp_path / "data") == []


def test_half_skipped_is_none_too_many(root: Path, tmp_path: Path) -> None:
    break_clips(root, good=2, bad=2)
    assert len(examples(prepare(root, tmp_path / "data"), "train")) == 2


def test_nothing_left_is_an_error_however_much_may_be_skipped(root: Path, tmp_path: Path) -> None:
    break_clips(root, good=0, bad=2)
    with pytest.raises(DataError, match=r"0 prepared \+ 2 skipped .*: nothing is left\."):
        prepare(root, tmp_path / "data", TOLERANT)


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
    message = r"does not exist or is empty.(.|\n)*Ask for the archi"
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
    with pytest.raises(DataError, match=r"trainingSet\.csv, line 2: no CSV .*; mend it"):
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
        return files.position(name, archive.HOLD_OUT_SEED) < archive.HELD_OUT

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


# Configs.


def test_one_config_is_the_default_and_the_others_are_known_by_name(tmp_path: Path) -> None:
    assert [config.name for config in moments.Builder.BUILDER_CONFIGS] == ["64x64_30f"]
    assert moments.Builder(data_dir=tmp_path).builder_config.name == "64x64_30f"
    for known in (*moments.Builder.BUILDER_CONFIGS, *moments.Builder.OTHER_CONFIGS):
        builder = moments.Builder(data_dir=tmp_path, config=known.name)
        assert builder.builder_config is known
        shape = (known.num_frames, known.image_size, known.image_size, 3)
        assert builder.info.features["video"].shape == shape
        assert known.name.startswith(f"{known.image_size}x{known.image_size}_{known.num_frames}f")
    with pytest.raises(ValueError, match="BuilderConfig 63x63 not found"):
        moments.Builder(data_dir=tmp_path, config="63x63")


def test_other_configs_choose_other_clips_or_frames() -> None:
    others = {config.name: config for config in moments.Builder.OTHER_CONFIGS}
    assert others["64x64_30f_paper_split"].split == "paper"
    assert others["64x64_30f_every_3rd"].stride == 3
    assert all(config.split == "archive" for name, config in others.items() if "paper" not in name)


def test_an_unknown_split_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="split='papre' is unknown: use archive or paper"):
        archive.splits(archive.find_root(str(root)), "papre")


@pytest.mark.parametrize("field", ["image_size", "num_frames", "stride"])
def test_frames_that_there_cannot_be_are_refused(field: str) -> None:
    with pytest.raises(DataError, match=f"{field}=0 must be at least 1"):
        config(name="bad", **{field: 0})


# A build is killed.


def running() -> dict[int, tuple[int, str]]:
    """All processes that have not ended: what started them, and their command lines."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ends just now
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                found[int(folder.name)] = int(parent), (folder / "cmdline").read_text()
    return found


def decoders_of(pid: int) -> set[int]:
    """The running decoding processes that a process has started."""
    processes = running().items()
    return {
        child for child, (parent, command) in processes if parent == pid and "spawn_main" in command
    }


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> bool:
    """Whether a condition becomes true within some time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_a_killed_build_leaves_nothing_and_the_next_one_succeeds(
    root: Path, tmp_path: Path
) -> None:
    write_clip(root / "training/zooming/a.mp4", 50, 50)
    write_clip(root / "validation/zooming/v.mp4", 150, 50)
    names = [f"zooming/{number}.mp4" for number in range(20_000)]  # far more than there is time for
    for name in names:
        (root / "training" / name).symlink_to("a.mp4")
    write_list(root / "trainingSet.csv", names)
    data_dir = tmp_path / "data"
    fields = {"name": "16x16_16f_from_30", "image_size": 16, "num_frames": 16, "start": 30}
    build = subprocess.Popen(
        [
            *(sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", "build"),
            *("data_builders/moments_in_time", f"--manual_dir={root}", f"--data_dir={data_dir}"),
            f"--config={json.dumps(fields)}",
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert wait_until(lambda: len(decoders_of(build.pid)) > 1)
    unfinished = "moments_in_time/16x16_16f_from_30/incomplete.*"
    assert wait_until(lambda: list(data_dir.glob(unfinished)))
    time.sleep(1)  # now in the middle
    decoders = decoders_of(build.pid)
    assert build.poll() is None
    build.kill()  # it alone
    build.wait()
    assert wait_until(lambda: not decoders & set(running()), seconds=10)
    assert list(data_dir.glob(unfinished))
    assert tfds_records.below(data_dir) == []
    with pytest.raises(DataError, match="holds no prepared records"):
        datasets.load("moments_in_time", "train", data_dir=data_dir, num_frames=16, image_size=16)

    write_list(root / "trainingSet.csv", names[:3])
    prepare(root, data_dir, config(**fields))
    train = datasets.load(
        "moments_in_time/16x16_16f_from_30",
        "train",
        data_dir=data_dir,
        num_frames=16,
        image_size=16,
    )
    assert sorted(train[index]["id"] for index in range(len(train))) == names[:3]
    for index in range(3):
        video = train[index]["video"].astype(int)
        assert np.abs(video - ramp(80, 16, 16, 16)).max() <= 2
