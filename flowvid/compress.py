"""Compresses clips without loss: `python -m flowvid.compress --workdir=runs/state --clips=folder`.

A run with --flow=mixture and --n_bits=8 knows how likely each grey value is. A range coder turns
that into a file; `python -m flowvid.decompress` gives every pixel back, on the same machine. Clips
are cropped and scaled to the run's size first, as in training.
"""

from absl import flags
from tqdm import tqdm

import flowvid
from flowvid import cli, fields, paths
from flowvid.config import command_line
from flowvid.data import sources

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of this entry point; called where it is the program."""
    command_line.define_checkpoint_flags()
    command_line.define_clip_flags()
    fields.path_flag("out", None, "File to write. [<workdir>/<name of the clips or split>.flv]")


def main() -> None:
    """Loads a checkpoint, compresses, and prints what was saved."""
    from flowvid.coding import coder, container

    model = flowvid.load(FLAGS.workdir, checkpoint=FLAGS.checkpoint, average=FLAGS.average)
    coder.check(model.config)
    clips = FLAGS.clips
    name = FLAGS.split if clips is None else clips.stem
    out = FLAGS.out or FLAGS.workdir / (name + container.SUFFIX)
    paths.check_writable(out.parent, "use another --out")
    chosen = sources.chosen(model, clips, FLAGS.label, FLAGS.split, FLAGS.num_videos)
    with (
        paths.whole_file(out) as file,
        tqdm(desc="compressing", unit="frame", leave=False) as bar,
    ):
        totals = coder.send(model, chosen, file, bar.update)
    size = out.stat().st_size
    dims = totals.frames * 3 * model.config.image_size.pixels
    print(
        f"{totals.clips} clips, {totals.frames} frames: {size} bytes, "
        f"{8 * size / dims:.4f} bits per dimension ({totals.ideal_bits / dims:.4f} by the model's "
        f"probabilities), {dims / size:.2f} times smaller than the grey values.\nWritten to {out}."
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
