"""Shows the contents of a dataset: `python -m flowvid.preview --dataset=moving_shapes`.

Writes clips to samples.png and samples.gif, and a summary to summary.json, which is also
printed. For a folder of clips or images, prints first which files are used, and why others are not.
"""

import dataclasses
import itertools
import json
import pathlib

import numpy as np
from absl import flags
from tqdm import tqdm

from flowvid import cli, fields, paths
from flowvid.conditioning.label_names import as_shown, label_index
from flowvid.config import command_line, dataset_names
from flowvid.data import catalog, datasets, media, tfds_records
from flowvid.data.video_features import Wanted
from flowvid.errors import DataError
from flowvid.sizes import Size

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of this entry point; called where it is the program."""
    flags.DEFINE_string(
        "dataset", "moving_shapes", "Name of a dataset, or a folder of clips, images or records."
    )
    fields.path_flag("data_dir", None, "Folder of prepared datasets. [TFDS's default]")
    command_line.define_feature_flags("found by itself")
    flags.DEFINE_string("split", "train", "Split to show: train, validation, test or another.")
    flags.DEFINE_integer(
        "num_frames",
        None,
        "Frames per clip, from the first on. [30 or, if there are none, those of the dataset]",
        lower_bound=1,
    )
    fields.size_flag(
        "image_size",
        "Size of a frame, as 64 or HEIGHTxWIDTH. [64 or, if there is none, that of the dataset]",
    )
    flags.DEFINE_integer("num_videos", 16, "Largest number of clips to show.", lower_bound=1)
    flags.DEFINE_string("label", None, "Label of the clips to show and measure. [all]")
    flags.DEFINE_integer("num_stats", 256, "Largest number of clips to measure.", lower_bound=1)
    flags.DEFINE_integer(
        "seed", 0, "Seed of the selection of clips.", lower_bound=0, upper_bound=2**32 - 1
    )
    fields.path_flag("out", None, "Folder to write to. [preview/<name of the dataset>]")


_GIF_SIZE = 512  # pixels; the GIF is enlarged to about this size


def _identify() -> tuple[str, int, Size]:
    """Returns the dataset's own name, the number of frames, and the image size.

    If a flag is not given, the default is 30 frames (1 for images) or 64 pixels; if records of that
    length or size are not prepared, it is what the prepared records have.

    Raises:
        DataError: where there are none.
    """
    given, data_dir = FLAGS.dataset, FLAGS.data_dir
    wanted = Wanted(FLAGS.video_feature, FLAGS.label_feature)
    num_frames = FLAGS.num_frames or (1 if catalog.holds_images(given, data_dir, wanted) else 30)
    image_size = FLAGS.image_size or Size(64, 64)
    path = paths.expand(given)
    if dataset_names.is_path(given) and not tfds_records.below(path):
        return path.resolve().stem, num_frames, image_size  # files are prepared as requested
    lengths = [num_frames] if FLAGS.num_frames else [num_frames, 1]
    sizes = [image_size] if FLAGS.image_size else [image_size, None]  # None stands for any size
    for length, size in itertools.product(lengths, sizes):
        try:
            builder = catalog.find(given, data_dir, length, size, wanted=wanted)
        except DataError:
            if (length, size) == (lengths[-1], sizes[-1]):
                raise
            continue
        frames, height, width = tfds_records.shape(builder, wanted)
        return (
            builder.name,
            num_frames if length == num_frames else frames or 1,
            size or Size(height or 1, width or 1),
        )
    raise AssertionError("the last attempt returns or raises")


def main() -> None:
    """Reads the labels, selects clips, writes the pictures and the summary, prints the summary."""
    from flowvid.data import dataset_statistics  # imports JAX, which --help does without

    if files := catalog.describe_files(FLAGS.dataset):
        print(f"Files in {FLAGS.dataset}:\n{files}", flush=True)
    name, num_frames, image_size = _identify()
    dataset = datasets.load(
        FLAGS.dataset,
        FLAGS.split,
        data_dir=FLAGS.data_dir,
        num_frames=num_frames,
        image_size=image_size,
        video_feature=FLAGS.video_feature,
        label_feature=FLAGS.label_feature,
    )
    dataset, names = dataclasses.replace(dataset, name=name), dataset.label_names
    shown_as = as_shown(names)
    chosen = None if FLAGS.label is None else label_index(names, FLAGS.label)
    indices = tqdm(range(len(dataset)), desc="labels", unit="clip", delay=1, leave=False)
    labels = np.array([dataset.label(index) for index in indices])
    candidates = np.flatnonzero((labels == chosen) | (chosen is None))
    if not len(candidates):
        raise DataError(
            f"{dataset.name} has no clip with label {FLAGS.label!r} in split {dataset.split!r}; "
            "omit --label to see which labels it has."
        )
    out = FLAGS.out or pathlib.Path("preview", name)
    paths.output_folder(out, "use another --out")
    pictures = ["samples.png"] if dataset.num_frames == 1 else ["samples.png", "samples.gif"]
    paths.note_files(out, [*pictures, "summary.json"])
    drawn = np.random.default_rng(FLAGS.seed).permutation(candidates).tolist()
    measured = tqdm(drawn[: FLAGS.num_stats], desc="frames", unit="clip", delay=1, leave=False)
    statistics = dataset_statistics.frame_statistics(dataset[index]["video"] for index in measured)
    report = dataset_statistics.summarize(dataset, labels, statistics, chosen)

    shown = [dataset[index] for index in drawn[: FLAGS.num_videos]]
    videos = np.stack([item["video"] for item in shown])
    captions = [shown_as[item["label"]] for item in shown]
    if dataset.num_frames == 1:
        media.write_image(out / "samples.png", media.image_grid(videos[:, 0], captions))
    else:
        media.write_image(out / "samples.png", media.contact_sheet(videos, captions=captions))
        grid = dataset_statistics.side_by_side(videos)
        scale = max(1, _GIF_SIZE // max(grid.shape[1:3]))
        media.write_video(out / "samples.gif", grid, scale=scale)
    (out / "summary.json").write_text(
        json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    print(dataset_statistics.format_summary(report))
    print(f"{len(shown)} clips and summary.json are in {out}.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
