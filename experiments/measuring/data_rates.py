"""Measures how fast clips are decoded, prepared and loaded."""

import itertools
import multiprocessing
import os
import pathlib
import resource
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from data_builders import files
from data_builders.moments_in_time import moments_in_time_dataset_builder as moments
from data_builders.moving_shapes import render
from experiments.measuring import machine
from flowvid.data import datasets, media, tfds_records
from flowvid.sizes import Size

_DISTINCT = 8  # clips that are rendered; the others are copies
_BATCH, _BATCHES = 16, 64  # of the loader
_PROCESSES = {"main process": resource.RUSAGE_SELF, "largest other": resource.RUSAGE_CHILDREN}


def make_archive(root: pathlib.Path, num_clips: int) -> None:
    """Makes an archive in the layout of Moments in Time, with one validation clip."""
    folder = root / "training" / "shapes"
    folder.mkdir(parents=True)
    for index in range(num_clips):
        path = folder / f"{index:06d}.mp4"
        if index < _DISTINCT:
            video, _ = render.render_clip(0, "train", index, num_frames=90, image_size=256)
            media.write_video(path, video, fps=30, scale=1)
        else:
            shutil.copy(folder / f"{index % _DISTINCT:06d}.mp4", path)
    (root / "validation" / "shapes").mkdir(parents=True)
    shutil.copy(folder / "000000.mp4", root / "validation" / "shapes")


def decode_share(paths: Sequence[str]) -> int:
    """Decodes and resizes clips, one after another, and returns how many could be read."""
    window = files.Window(num_frames=30, image_size=Size(64, 64))
    decoded = (files.decode_item(window, "/", files.Item(path, "", path)) for path in paths)
    return sum(not isinstance(video, str) for video in decoded)


def decode_all(paths: Sequence[str], processes: int) -> int:
    """Runs `decode_share` in processes, each with its share of the clips."""
    shares = [paths[start::processes] for start in range(processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return sum(pool.map(decode_share, shares))


def prepare(root: pathlib.Path, data_dir: pathlib.Path, image_size: int) -> None:
    """Prepares the archive as `tfds build` does, from the start."""
    import tensorflow_datasets as tfds

    shutil.rmtree(data_dir, ignore_errors=True)
    builder = moments.Builder(data_dir=data_dir, config=f"{image_size}x{image_size}_30f")
    with tfds_records.quiet():
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=root))


def rate(work: Callable[[], Any], count: int) -> float:
    """Calls `work`, which handles `count` things, and returns things per second."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def read_all(dataset: datasets.Dataset) -> None:
    """Reads every record once, in order."""
    for index in range(len(dataset)):
        dataset[index]


def loading_rates(data_dir: pathlib.Path, image_size: int, repeats: int) -> dict[str, float]:
    """Returns videos per second: of one thread that reads records, and of the loader's batches."""
    dataset = datasets.load(
        "moments_in_time", "train", data_dir=data_dir, num_frames=30, image_size=image_size
    )
    batches = datasets.train_batches(dataset, batch_size=_BATCH, seed=0)
    next(batches)  # starts its threads
    size, read, loaded = f"{image_size}x{image_size}", [], []
    for _ in range(repeats):
        read.append(rate(lambda: read_all(dataset), len(dataset)))
        loaded.append(rate(lambda: list(itertools.islice(batches, _BATCHES)), _BATCHES * _BATCH))
    return {
        f"read_videos_per_s_one_thread_{size}": statistics.median(read),
        f"loader_videos_per_s_{size}": statistics.median(loaded),
    }


def measure(root: pathlib.Path, data_dir: pathlib.Path, repeats: int) -> dict[str, Any]:
    """Returns all rates; the two that are compared are measured in turn."""
    processes = os.cpu_count() or 1
    paths = sorted(map(str, (root / "training").glob("*/*")))
    bare, whole = [], []
    for _ in range(repeats):
        bare.append(rate(lambda: decode_all(paths, processes), len(paths)))
        whole.append(rate(lambda: prepare(root, data_dir, 64), len(paths) + 1))
    prepared = statistics.median(whole)
    kilobytes = {who: resource.getrusage(which).ru_maxrss for who, which in _PROCESSES.items()}
    loading = loading_rates(data_dir, 64, repeats)
    prepare(root, data_dir, 32)
    small = loading_rates(data_dir, 32, repeats)
    return {
        "machine": machine.describe(),
        "clips": len(paths),
        "bare_clips_per_s": statistics.median(bare),
        "prepared_clips_per_s": prepared,
        "prepared_over_bare": statistics.median(w / b for w, b in zip(whole, bare, strict=True)),
        "prepared_clips_per_s_core": prepared / processes,
        "hours_100k_on_16_cores": 1e5 / (prepared / processes * 16) / 3600,
        "hours_1m_on_1000_cores": 1e6 / (prepared / processes * 1000) / 3600,
        "peak_memory_mb": {who: size / 1024 for who, size in kilobytes.items()},
        **loading,
        **small,
    }
