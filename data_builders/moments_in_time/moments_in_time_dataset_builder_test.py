"""Preparing an archive with every kind of file: each ends as a record or in a report."""

import os
import shutil
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moments_archive import (
    TOLERANT,
    examples,
    ffmpeg,
    prepare,
    ramp,
    reports,
    skipped,
    write_clip,
    write_list,
)
from PIL import Image

from data_builders import listing
from flowvid.data import media

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
    "zooming/new\\nline.mp4": 110,
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
    "bowing/outside.mp4": "a symbolic link that leads out of the dataset's folder",
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
        write_clip(zooming / f"{name}.mp4", GOOD[listing.printable(f"zooming/{name}.mp4")])
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

    names = [
        name.encode().decode("unicode_escape") if "\\" in name else name for name in (*GOOD, *BAD)
    ]
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
    from apache_beam.options.pipeline_options import PipelineOptions  # takes seconds to import

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
