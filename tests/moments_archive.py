"""Small archives of Moments in Time and their preparation, for tests.

A test file uses the fixtures by `pytest_plugins = ["moments_archive"]`.
"""

import csv
import shutil
import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_builders.moments_in_time import moments_in_time_dataset_builder as moments
from flowvid.data import media


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


def break_clips(root: Path, good: int, bad: int) -> None:
    """Lists so many good and so many bad clips for training."""
    names = [f"zooming/{number}.mp4" for number in range(good + bad)]
    for name in names[:good]:
        shutil.copy(root / "training/zooming/a.mp4", root / "training" / name)
    for name in names[good:]:
        (root / "training" / name).write_text("no video\n" * 50)
    write_list(root / "trainingSet.csv", names)
