"""Compresses clips without loss: `python -m flowvid.compress --workdir=runs/state --clips=folder`.

A run with --flow=mixture and --n_bits=8 knows how likely each grey value is. A range coder turns
that into a file; `python -m flowvid.decompress` gives every pixel back, on the same machine. Clips
are cropped and scaled to the run's size first, as in training.
"""

import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

from absl import flags
from tqdm import tqdm

import flowvid
from flowvid import cli, fields, paths
from flowvid.conditioning.label_names import label_index
from flowvid.config import command_line
from flowvid.data import datasets, decoding
from flowvid.errors import ClipError, ConfigError

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of this entry point; called where it is the program."""
    command_line.define_checkpoint_flags()
    fields.path_flag("clips", None, "A clip, an image, or a folder of them. [--split of the data]")
    flags.DEFINE_enum(
        "split", "validation", ["train", "validation", "test"], "Split of the run's dataset."
    )
    flags.DEFINE_integer("num_videos", None, "Clips of --split. [all]", lower_bound=1)
    flags.DEFINE_string("label", None, "Label of --clips, for a run with labels. [not told]")
    fields.path_flag("out", None, "File to write. [<workdir>/<name of the clips or split>.flv]")


def main() -> None:
    """Loads a checkpoint, compresses, and prints what was saved."""
    from flowvid.coding import coder, container

    model = flowvid.load(FLAGS.workdir, checkpoint=FLAGS.checkpoint, average=FLAGS.average)
    coder.check(model.config)
    clips = FLAGS.clips
    if clips is None and FLAGS.label is not None:
        raise ConfigError("--label goes with --clips: the clips of --split have their own labels.")
    name = FLAGS.split if clips is None else clips.stem
    out = FLAGS.out or FLAGS.workdir / (name + container.SUFFIX)
    chosen = _of_split(model) if clips is None else _of_files(model, clips)
    with (
        paths.whole_file(out, "use another --out") as file,
        tqdm(desc="compressing", unit="frame", leave=False) as bar,
    ):
        totals = coder.send(model, chosen, file, bar.update)
    size = out.stat().st_size
    dims = totals.frames * 3 * model.config.image_size**2
    print(
        f"{totals.clips} clips, {totals.frames} frames: {size} bytes, "
        f"{8 * size / dims:.4f} bits per dimension ({totals.ideal_bits / dims:.4f} by the model's "
        f"probabilities), {dims / size:.2f} times smaller than the grey values.\nWritten to {out}."
    )


def _of_split(model: Any) -> Iterator[Any]:
    """Yields the clips of --split with their labels."""
    from flowvid.coding.coder import SentClip

    config = model.config
    dataset = datasets.load(
        config.dataset,
        FLAGS.split,
        data_dir=config.data_dir,
        num_frames=config.num_frames,
        image_size=config.image_size,
        max_skipped=config.max_skipped,
    )
    for index in range(min(FLAGS.num_videos or len(dataset), len(dataset))):
        example = dataset[index]
        yield SentClip(example["id"], int(example["label"]), iter(example["video"]))


def _of_files(model: Any, clips: pathlib.Path) -> Iterator[Any]:
    """Yields the clips of a file or folder, with --label.

    Raises:
        ClipError: where there is no clip, or one cannot be read.
        ConfigError: for a run with labels of which each must be told, without --label.
    """
    from flowvid.coding.coder import SentClip

    label = _label(model)
    files = [clips]
    if clips.is_dir():
        suffixes = decoding.CLIP_SUFFIXES | decoding.IMAGE_SUFFIXES
        files = sorted(f for f in clips.rglob("*") if f.suffix.lower() in suffixes and f.is_file())
        if not files:
            raise ClipError(f"{clips} has no clips or images: give another --clips.")
    for file in files:
        frames = decoding.iterate(file, model.config.image_size)
        if "tail" not in model.config.models:
            first, *more = itertools.islice(frames, 2)
            if more:
                model.check_tail(f"{file}, which has more than one frame")
            frames = iter([first])
        yield SentClip(file.name, label, frames)


def _label(model: Any) -> int:
    config = model.config
    if FLAGS.label is not None:
        return label_index(model.label_names, FLAGS.label)
    if config.ablation.uses_labels and not config.label_dropout:
        raise ConfigError(
            f"{FLAGS.workdir} was trained with every label told: give the --label of the clips."
        )
    return int(config.num_labels)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
