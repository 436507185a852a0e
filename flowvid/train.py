"""Trains a model: `python -m flowvid.train --variant=prev_frame --preset=small`.

A run is a folder, --workdir. Run the same command again to resume it where it stopped.
"""

import pathlib
import shlex
from typing import Any

from absl import flags, logging

from flowvid import cli, fields
from flowvid.config import command_line

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of this entry point; called where it is the program."""
    command_line.define_flags()
    command_line.define_distributed_flags()
    fields.path_flag(
        "workdir", None, "Run: folder of the run. [runs/<variant>, under the current folder]"
    )
    fields.path_flag(
        "inspect",
        None,
        "Run: a batch that was kept in <workdir>/incidents. Prints the loss and the gradients of "
        "each of its examples, and trains nothing. [none]",
    )


def _log_cost(settings: Any) -> None:
    from flowvid.training import cost

    gflop = sum(cost.step_gflop(settings).values())
    logging.warning(
        "On this CPU a step of the paper preset takes %.0f s or more (%.0f GFLOP at the "
        "matrix-product speed measured just now); --preset=small trains in minutes.",
        gflop / cost.matmul_gflops(),
        gflop,
    )


def _settings(saved: Any, given: dict[str, Any]) -> Any:
    """Returns the configuration; a new run on single images trains the head alone."""
    from flowvid.data import catalog
    from flowvid.data.video_features import Wanted

    settings = command_line.from_flags(saved, given)
    wanted = Wanted(settings.video_feature, settings.label_feature)
    if (
        saved is not None
        or "num_frames" in given
        or not catalog.holds_images(settings.dataset, settings.data_dir, wanted)
    ):
        return settings
    print(
        f"{settings.dataset} holds single images: --num_frames=1, the head alone is trained.",
        flush=True,
    )
    return command_line.from_flags(None, given | {"num_frames": 1})


def main() -> None:
    """Reads the flags, trains, and prints which commands come next."""
    import jax

    from flowvid.parallel import processes
    from flowvid.training import loop
    from flowvid.training.checkpoints import reading
    from flowvid.training.resilience import replay

    if (others := command_line.distributed_flags()) is not None:
        processes.start(*others)
    given = command_line.flags_given()
    variant = given.get("variant", "prev_frame")
    workdir = FLAGS.workdir or pathlib.Path("runs", variant)
    if FLAGS.inspect:
        print(replay.format_rows(*replay.replay(workdir, FLAGS.inspect)))
        return
    found = reading.find_config(workdir)
    settings = _settings(None if found is None else found[0], given)
    if settings.preset == "paper" and jax.default_backend() == "cpu" and settings.ablation.trains:
        _log_cost(settings)
    state = loop.train(settings, workdir)
    for name in settings.models:
        skipped = int(getattr(state, name).skipped)
        if skipped:
            logging.warning(
                "%d of %d steps of the %s had a non-finite loss or gradient and were skipped; a "
                "lower --learning_rate or more --warmup_steps may help.",
                skipped,
                int(state.step),
                name,
            )
    if not processes.is_first():
        return
    quoted = shlex.quote(str(workdir))
    print(
        f"{workdir} is trained to step {int(state.step)}. Next:\n"
        f"  python -m flowvid.evaluate --workdir={quoted}\n"
        f"  python -m flowvid.sample --workdir={quoted}\n"
        f"  tensorboard --logdir={quoted}"
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main, huge_pages=True)
