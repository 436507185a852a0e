"""Shows what a data set holds: `python -m flowvid.preview --dataset=moving_shapes`.

Writes clips as samples.png and samples.gif; writes and prints a summary, dataset_statistics.json.
"""

import contextlib
import dataclasses
import itertools
import json
import pathlib

import numpy as np
from absl import flags
from tqdm import tqdm

from flowvid import cli
from flowvid.conditioning.label_names import label_index
from flowvid.data import catalog, dataset_statistics, datasets, media, tfds_records
from flowvid.errors import DataError

_DATASET = flags.DEFINE_string(
    "dataset", "moving_shapes", "A known name, or a folder of clips, images or records."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where prepared data sets are. [TFDS's own]")
_SPLIT = flags.DEFINE_string("split", "train", "Which split: train, validation or another.")
_NUM_FRAMES = flags.DEFINE_integer(
    "num_frames", None, "First frames a clip. [30, or what there is]", lower_bound=1
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Height and width, in pixels. [64, or what there is]", lower_bound=1
)
_NUM_VIDEOS = flags.DEFINE_integer("num_videos", 16, "Clips to show, at most.", lower_bound=1)
_LABEL = flags.DEFINE_string("label", None, "Show and measure this label only. [all]")
_NUM_STATS = flags.DEFINE_integer("num_stats", 256, "Clips to measure, at most.", lower_bound=1)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Of which clips are drawn.", lower_bound=0, upper_bound=2**32 - 1
)
_OUT = flags.DEFINE_string("out", None, "Folder to write to. [preview/<the data set's name>]")

_GIF_SIZE = 512  # pixels that the GIF is enlarged towards


def _identify() -> tuple[str, int, int]:
    """The data set's own name, and frames and pixels.

    These are the flags, else 30 (1 for images) and 64, or what there is where all is prepared.
    """
    given, data_dir = _DATASET.value, _DATA_DIR.value
    num_frames = _NUM_FRAMES.value or (1 if catalog.holds_images(given, data_dir) else 30)
    image_size = _IMAGE_SIZE.value or 64
    path = pathlib.Path(given).expanduser()
    if path.exists() and not tfds_records.below(path):
        return path.resolve().stem, num_frames, image_size  # one's own files are prepared as asked
    lengths = [num_frames] if _NUM_FRAMES.value else [num_frames, 1]
    sizes = [image_size] if _IMAGE_SIZE.value else [image_size, 1]  # 1 divides whatever there is
    for length, size in itertools.product(lengths, sizes):
        with contextlib.suppress(DataError):
            builder = catalog.find(given, data_dir, length, size)
            frames, height, _ = tfds_records.shape(builder)
            return (
                builder.name,
                num_frames if length == num_frames else frames or 1,
                image_size if size == image_size else height or 1,
            )
    return given, lengths[-1], sizes[-1]  # datasets.load says why not


def main() -> None:
    """Reads the labels, draws clips, writes the pictures and the summary, prints the summary."""
    name, num_frames, image_size = _identify()
    dataset = datasets.load(
        _DATASET.value,
        _SPLIT.value,
        data_dir=_DATA_DIR.value,
        num_frames=num_frames,
        image_size=image_size,
    )
    dataset, label = dataclasses.replace(dataset, name=name), _LABEL.value
    chosen = None if label is None else label_index(dataset.label_names, label)
    indices = tqdm(range(len(dataset)), desc="labels", unit="clip", delay=1, leave=False)
    labels = np.array([int(dataset.source[index]["label"]) for index in indices])
    candidates = np.flatnonzero((labels == chosen) | (chosen is None))
    if not len(candidates):
        raise DataError(
            f"{dataset.name} has no clip of {label!r} in split {dataset.split!r}; "
            "leave out --label to see which labels it has."
        )
    drawn = np.random.default_rng(_SEED.value).permutation(candidates).tolist()
    measured = tqdm(drawn[: _NUM_STATS.value], desc="frames", unit="clip", delay=1, leave=False)
    statistics = dataset_statistics.frame_statistics(dataset[index]["video"] for index in measured)
    report = dataset_statistics.summarize(dataset, labels, statistics, label)

    out = pathlib.Path(_OUT.value or pathlib.Path("preview", dataset.name))
    shown = [dataset[index] for index in drawn[: _NUM_VIDEOS.value]]
    videos = np.stack([item["video"] for item in shown])
    captions = [dataset.label_names[item["label"]] for item in shown]
    if dataset.num_frames == 1:
        media.write_image(out / "samples.png", media.image_grid(videos[:, 0], captions))
    else:
        media.write_image(out / "samples.png", media.contact_sheet(videos, captions=captions))
        grid = dataset_statistics.side_by_side(videos)
        scale = max(1, _GIF_SIZE // max(grid.shape[1:3]))
        media.write_video(out / "samples.gif", grid, scale=scale)
    (out / "dataset_statistics.json").write_text(
        json.dumps(report, indent=2, allow_nan=False) + "\n"
    )
    print(dataset_statistics.format_summary(report))
    print(f"{len(shown)} clips and dataset_statistics.json are in {out}.")


if __name__ == "__main__":
    cli.run(main)
