"""Trains a model: `python -m flowvid.train --variant=prev_frame --preset=small`.

A run is a folder, --workdir; the same command again goes on where it stopped.
"""

import pathlib

import jax
from absl import flags, logging

from flowvid import cli, config, cost, training

config.define_flags()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Run: folder of the run. [runs/<variant>, under the current folder]"
)


def _say_what_it_costs(settings: config.Config) -> None:
    gflop = sum(cost.step_gflop(settings).values())
    logging.warning(
        "On this CPU a step of the paper preset takes %.0f s or more (%.0f GFLOP at the "
        "matrix-product speed measured just now); --preset=small trains in minutes.",
        gflop / cost.matmul_gflops(),
        gflop,
    )


def main() -> None:
    """Reads the flags, trains, and says what to do next."""
    given = config.flags_given()
    variant = given.get("variant", "prev_frame")
    workdir = pathlib.Path(_WORKDIR.value or f"runs/{variant}")
    saved = config.read(workdir)[0] if (workdir / "config.json").exists() else None
    settings = config.from_flags(saved, given)
    if (
        settings.preset == "paper"
        and jax.default_backend() == "cpu"
        and settings.conditioning.trains
    ):
        _say_what_it_costs(settings)
    state = training.train(settings, workdir)
    for name in ("head", "tail"):
        skipped = int(getattr(state, name).skipped)
        if skipped:
            logging.warning(
                "%d of %d steps of the %s had no finite loss or gradient and changed nothing; a "
                "lower --learning_rate or more --warmup_steps may help.",
                skipped,
                int(state.step),
                name,
            )
    print(
        f"{workdir} is trained to step {int(state.step)}. Next:\n"
        f"  python -m flowvid.evaluate --workdir={workdir}\n"
        f"  python -m flowvid.sample --workdir={workdir}\n"
        f"  tensorboard --logdir={workdir}"
    )


if __name__ == "__main__":
    cli.run(main)
