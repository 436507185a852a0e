"""Shows the contents of a dataset: `python -m flowvid.preview --dataset=moving_shapes`.

Writes clips to samples.png and samples.gif, and a summary to summary.json, which is also
printed.
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
from flowvid.data import catalog, datasets, media, tfds_records
from flowvid.errors import DataError

_DATASET = flags.DEFINE_string(
    "dataset", "moving_shapes", "Name of a dataset, or a folder of clips, images or records."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of prepared datasets. [TFDS's default]")
_SPLIT = flags.DEFINE_string("split", "train", "Split to show: train, validation, test or another.")
_NUM_FRAMES = flags.DEFINE_integer(
    "num_frames",
    None,
    "Frames per clip, from the first on. [30 or, if there are none, those of the dataset]",
    lower_bound=1,
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size",
    None,
    "Height and width, in pixels. [64 or, if there is none, that of the dataset]",
    lower_bound=1,
)
_NUM_VIDEOS = flags.DEFINE_integer(
    "num_videos", 16, "Largest number of clips to show.", lower_bound=1
)
_LABEL = flags.DEFINE_string("label", None, "Label of the clips to show and measure. [all]")
_NUM_STATS = flags.DEFINE_integer(
    "num_stats", 256, "Largest number of clips to measure.", lower_bound=1
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the selection of clips.", lower_bound=0, upper_bound=2**32 - 1
)
_OUT = flags.DEFINE_string("out", None, "Folder to write to. [preview/<name of the dataset>]")

_GIF_SIZE = 512  # pixels; the GIF is enlarged to about this size


def _identify() -> tuple[str, int, int]:
    """Returns the dataset's own name, the number of frames, and the image size.

    If a flag is not given, the default is 30 frames (1 for images) or 64 pixels; if records of that
    length or size are not prepared, it is what the prepared records have.
    """
    given, data_dir = _DATASET.value, _DATA_DIR.value
    num_frames = _NUM_FRAMES.value or (1 if catalog.holds_images(given, data_dir) else 30)
    image_size = _IMAGE_SIZE.value or 64
    path = pathlib.Path(given).expanduser()
    if path.exists() and not tfds_records.below(path):
        return path.resolve().stem, num_frames, image_size  # files are prepared as requested
    lengths = [num_frames] if _NUM_FRAMES.value else [num_frames, 1]
    sizes = [image_size] if _IMAGE_SIZE.value else [image_size, 1]  # 1 divides any size
    for length, size in itertools.product(lengths, sizes):
        with contextlib.suppress(DataError):
            builder = catalog.find(given, data_dir, length, size)
            frames, height, _ = tfds_records.shape(builder)
            return (
                builder.name,
                num_frames if length == num_frames else frames or 1,
                image_size if size == image_size else height or 1,
            )
    return given, lengths[-1], sizes[-1]  # for which datasets.load raises the error


def main() -> None:
    """Reads the labels, selects clips, writes the pictures and the summary, prints the summary."""
    from flowvid.data import dataset_statistics  # imports JAX, which --help does without

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
            f"{dataset.name} has no clip with label {label!r} in split {dataset.split!r}; "
            "omit --label to see which labels it has."
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
    (out / "summary.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    print(dataset_statistics.format_summary(report))
    print(f"{len(shown)} clips and summary.json are in {out}.")


if __name__ == "__main__":
    cli.run(main)
