"""How fast data is prepared and read: `python -m experiments.data_benchmark`.

Makes H.264 clips like those of Moments in Time (256x256, 90 frames), then measures, in one run,
the bare decoder and resizer, the whole preparation of the same clips, and the loader on what was
prepared, at 64x64 and 30 frames (the loader at 32x32, too). Prints a table, and writes JSON with
--out.
"""

import itertools
import json
import multiprocessing
import os
import pathlib
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags

from data_builders import files
from data_builders.moments_in_time import moments_in_time_dataset_builder as moments
from data_builders.moving_shapes import render
from experiments import machine
from flowvid.data import datasets, media, tfds_records

_CLIPS = flags.DEFINE_integer("clips", 600, "Clips to prepare.", lower_bound=16)
_REPEATS = flags.DEFINE_integer("repeats", 3, "Runs of each, of which the median counts.")
_OUT = flags.DEFINE_string("out", None, "JSON file to write. [none]")
_DISTINCT = 8  # clips that are rendered; the others are copies


def make_archive(root: pathlib.Path, num_clips: int) -> None:
    """An archive in the layout of Moments in Time, without lists; one validation clip."""
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
    """The bare decoder and resizer, one path after another: how many clips were good."""
    window = files.Window(num_frames=30, image_size=64)
    decoded = (files.decode_item(window, "/", files.Item(path, "", path)) for path in paths)
    return sum(not isinstance(video, str) for video in decoded)


def decode_all(paths: Sequence[str], processes: int) -> int:
    """`decode_share` on all cores, each with its share, results thrown away."""
    shares = [paths[start::processes] for start in range(processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return sum(pool.map(decode_share, shares))


def prepare(root: pathlib.Path, data_dir: pathlib.Path, image_size: int) -> None:
    """Prepares the archive as `tfds build` does, anew."""
    import tensorflow_datasets as tfds

    shutil.rmtree(data_dir, ignore_errors=True)
    builder = moments.Builder(data_dir=data_dir, config=f"{image_size}x{image_size}_30f")
    with tfds_records.quiet():
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=root))


def rate(work: Callable[[], Any], count: int) -> float:
    """How many of `count` things a second, once."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def read_all(dataset: datasets.Dataset) -> None:
    """Every record, once, in order."""
    for index in range(len(dataset)):
        dataset[index]


def loading_rates(data_dir: pathlib.Path, image_size: int, repeats: int) -> dict[str, float]:
    """Videos a second: one thread reading record after record, and the loader's batches of 16."""
    dataset = datasets.load(
        "moments_in_time", "train", data_dir=data_dir, num_frames=30, image_size=image_size
    )
    batches = datasets.train_batches(dataset, batch_size=16, seed=0)
    next(batches)  # its threads are running
    size, read, loaded = f"{image_size}x{image_size}", [], []
    for _ in range(repeats):
        read.append(rate(lambda: read_all(dataset), len(dataset)))
        loaded.append(rate(lambda: list(itertools.islice(batches, 64)), 64 * 16))
    return {
        f"read_videos_per_s_one_thread_{size}": statistics.median(read),
        f"loader_videos_per_s_{size}": statistics.median(loaded),
    }


def measure(root: pathlib.Path, data_dir: pathlib.Path, repeats: int) -> dict[str, Any]:
    """All figures; each pair that is compared takes turns."""
    processes = os.cpu_count() or 1
    paths = sorted(map(str, (root / "training").glob("*/*")))
    bare, whole = [], []
    for _ in range(repeats):
        bare.append(rate(lambda: decode_all(paths, processes), len(paths)))
        whole.append(rate(lambda: prepare(root, data_dir, 64), len(paths) + 1))
    prepared = statistics.median(whole)
    kilobytes = {who: resource.getrusage(which).ru_maxrss for who, which in _WHO.items()}
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


_WHO = {"main process": resource.RUSAGE_SELF, "largest other": resource.RUSAGE_CHILDREN}


def main(argv: Sequence[str]) -> None:
    """Measures in a temporary folder, prints, writes."""
    del argv
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        make_archive(root / "archive", _CLIPS.value)
        figures = measure(root / "archive", root / "data", _REPEATS.value)
    for name, value in figures.items():
        print(f"{name:32}{value:.3g}" if isinstance(value, float) else f"{name:32}{value}")
    if _OUT.value:
        pathlib.Path(_OUT.value).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
