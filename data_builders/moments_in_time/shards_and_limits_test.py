"""Shards, capped builds, builds with too few good clips, configs, and builds that are killed."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moments_archive import (
    TOLERANT,
    break_clips,
    config,
    examples,
    prepare,
    ramp,
    reports,
    write_clip,
    write_list,
)

from data_builders.moments_in_time import archive
from data_builders.moments_in_time import moments_in_time_dataset_builder as moments
from flowvid.data import datasets, tfds_records
from flowvid.errors import ConfigError, DataError

pytest_plugins = ["moments_archive"]

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize("with_beam", [False, True])
def test_too_many_skipped_is_an_error(root: Path, tmp_path: Path, with_beam: bool) -> None:
    options: dict[str, Any] = {}
    if with_beam:
        from apache_beam.options.pipeline_options import PipelineOptions  # takes seconds to import

        options["beam_options"] = PipelineOptions(["--runner=DirectRunner"])
    break_clips(root, good=2, bad=3)
    message = (
        r"train: 2 prepared \+ 3 skipped \(60\.0%\) = 5 listed: too many\. Most frequent reasons: "
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
    assert {name for name, config in others.items() if config.subset} == {
        "64x64_30f_subset",
        "64x64_30f_subset_paper_split",
    }
    assert others["64x64_30f_subset_paper_split"].split == "paper"
    assert all(config.split == "archive" for name, config in others.items() if "paper" not in name)


def test_an_unknown_split_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="split='papre' is unknown: use archive or paper"):
        archive.splits(archive.find_root(str(root)), "papre")


@pytest.mark.parametrize("field", ["num_frames", "stride"])
def test_frames_that_there_cannot_be_are_refused(field: str) -> None:
    with pytest.raises(DataError, match=f"{field}=0 must be at least 1"):
        config(name="bad", **{field: 0})


def test_a_size_that_there_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="image_size=0: use a whole number of pixels from 1 to"):
        config(name="bad", image_size=0)


# A build is killed.


def running() -> dict[int, tuple[int, str]]:
    """All processes that have not ended: what started them, and their command lines."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ends just now
            # Other tests run at the same time, with names that are not UTF-8.
            stat, command = (
                (folder / name).read_text(encoding="utf-8", errors="replace")
                for name in ("stat", "cmdline")
            )
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state not in "ZX":
                found[int(folder.name)] = int(parent), command
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
