"""Trains a model: `python -m flowvid.train --variant=prev_frame --preset=small`.

A run is a folder, --workdir; the same command again goes on where it stopped.
"""

import pathlib
from typing import Any

import jax
from absl import flags, logging

from flowvid import cli
from flowvid.config import command_line, schema
from flowvid.data import catalog
from flowvid.parallel import processes
from flowvid.training import cost, loop
from flowvid.training.checkpoints import reading
from flowvid.training.resilience import replay

command_line.define_flags()
command_line.define_distributed_flags()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Run: folder of the run. [runs/<variant>, under the current folder]"
)
_INSPECT = flags.DEFINE_string(
    "inspect",
    None,
    "Run: a batch that was kept in <workdir>/incidents; says what the models make of each of its "
    "examples, and trains nothing. [none]",
)


def _say_what_it_costs(settings: schema.Config) -> None:
    gflop = sum(cost.step_gflop(settings).values())
    logging.warning(
        "On this CPU a step of the paper preset takes %.0f s or more (%.0f GFLOP at the "
        "matrix-product speed measured just now); --preset=small trains in minutes.",
        gflop / cost.matmul_gflops(),
        gflop,
    )


def _settings(saved: schema.Config | None, given: dict[str, Any]) -> schema.Config:
    """The run that the flags ask for; a new one on single images is of the head alone."""
    settings = command_line.from_flags(saved, given)
    if (
        saved is not None
        or "num_frames" in given
        or not catalog.holds_images(settings.dataset, settings.data_dir)
    ):
        return settings
    print(
        f"{settings.dataset} holds single images: --num_frames=1, the head alone is trained.",
        flush=True,
    )
    return command_line.from_flags(None, given | {"num_frames": 1})


def main() -> None:
    """Reads the flags, trains, and says what to do next."""
    if (others := command_line.distributed_flags()) is not None:
        processes.start(*others)
    given = command_line.flags_given()
    variant = given.get("variant", "prev_frame")
    workdir = pathlib.Path(_WORKDIR.value or f"runs/{variant}")
    if _INSPECT.value:
        print(replay.format_rows(*replay.replay(workdir, pathlib.Path(_INSPECT.value))))
        return
    found = reading.find_config(workdir)
    saved = None if found is None else found[0]
    settings = _settings(saved, given)
    if settings.preset == "paper" and jax.default_backend() == "cpu" and settings.ablation.trains:
        _say_what_it_costs(settings)
    state = loop.train(settings, workdir)
    for name in settings.models:
        skipped = int(getattr(state, name).skipped)
        if skipped:
            logging.warning(
                "%d of %d steps of the %s had no finite loss or gradient and changed nothing; a "
                "lower --learning_rate or more --warmup_steps may help.",
                skipped,
                int(state.step),
                name,
            )
    if not processes.is_first():
        return
    print(
        f"{workdir} is trained to step {int(state.step)}. Next:\n"
        f"  python -m flowvid.evaluate --workdir={workdir}\n"
        f"  python -m flowvid.sample --workdir={workdir}\n"
        f"  tensorboard --logdir={workdir}"
    )


if __name__ == "__main__":
    cli.use_huge_pages()
    cli.run(main)
