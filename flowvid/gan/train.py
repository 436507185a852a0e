"""Trains the paper's GAN: `python -m flowvid.gan.train --preset=small --objective=r1`.

A run is a folder, --workdir. To resume a run, run the same command again.
"""

import pathlib

from absl import flags, logging

from flowvid import cli, fields
from flowvid.gan import config

fields.define_flags(config.GanConfig, config.PRESETS)
_WORKDIR = flags.DEFINE_string("workdir", None, "Run: folder of the run. [runs/gan_<objective>]")


def main() -> None:
    """Reads the flags, trains, and prints the next commands."""
    from flowvid.gan import training  # imports JAX, which --help does without

    given = fields.given(config.GanConfig)
    workdir = pathlib.Path(_WORKDIR.value or f"runs/gan_{given.get('objective', 'paper')}")
    saved = config.read(workdir)[0] if (workdir / "config.json").exists() else None
    run = training.train(config.from_flags(saved, given), workdir)
    if int(run.skipped):
        logging.warning(
            "%d of %d steps had a non-finite loss or gradient and were skipped.",
            int(run.skipped),
            int(run.step),
        )
    print(
        f"{workdir} is trained to step {int(run.step)}. Next:\n"
        f"  python -m flowvid.gan.sample --workdir={workdir}\n"
        f"  tensorboard --logdir={workdir}"
    )


if __name__ == "__main__":
    cli.run(main, huge_pages=True)
