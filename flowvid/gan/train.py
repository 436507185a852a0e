"""Trains the paper's GAN: `python -m flowvid.gan.train --preset=small --objective=r1`.

A run is a folder, --workdir. To resume a run, run the same command again.
"""

import pathlib
import shlex

from absl import flags, logging

from flowvid import cli, fields
from flowvid.config import dataset_names
from flowvid.gan import config

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of this entry point; called where it is the program."""
    fields.define_flags(config.GanConfig, config.PRESETS)
    fields.path_flag("workdir", None, "Run: folder of the run. [runs/gan_<objective>]")


def main() -> None:
    """Reads the flags, trains, and prints the next commands."""
    from flowvid.gan import training  # imports JAX, which --help does without

    given = dataset_names.absolute(fields.given(config.GanConfig))
    workdir = FLAGS.workdir or pathlib.Path("runs", f"gan_{given.get('objective', 'paper')}")
    saved = config.read(workdir)[0] if (workdir / "config.json").exists() else None
    run = training.train(config.from_flags(saved, given), workdir)
    if int(run.skipped):
        logging.warning(
            "%d of %d steps had a non-finite loss or gradient and were skipped.",
            int(run.skipped),
            int(run.step),
        )
    quoted = shlex.quote(str(workdir))
    print(
        f"{workdir} is trained to step {int(run.step)}. Next:\n"
        f"  python -m flowvid.gan.sample --workdir={quoted}\n"
        f"  tensorboard --logdir={quoted}"
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main, huge_pages=True)
