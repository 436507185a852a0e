"""The paper's Table I: `python -m experiments.table1 --preset=small --seeds=0,1,2`.

Trains the variants with several seeds, evaluates them on the validation split, and prints the
paper's table with ours beside it, and which of the paper's claims hold here; writes table1.json,
.csv, .md and .tex to --workdir. Interrupted, the same command goes on. All flags of
`flowvid.train` but --variant and --seed are passed on to it.
"""

import json
import pathlib
from typing import Any

from absl import flags

from experiments import ablation, runs, tables
from flowvid import cli
from flowvid.config import command_line
from flowvid.errors import ConfigError

command_line.define_flags()
_WORKDIR = flags.DEFINE_string("workdir", "runs/table1", "Run: folder of the runs and the tables.")
_SEEDS = flags.DEFINE_list("seeds", ["0"], "Run: seeds to train each variant with.")
_JOBS = flags.DEFINE_integer("jobs", 1, "Run: trainings at a time, sharing the cores.", 1)
_GPUS = flags.DEFINE_list("gpus", [], "Run: numbers of GPUs, one training at a time on each.")
_NUM_VIDEOS = flags.DEFINE_integer("num_videos", None, "Run: videos to evaluate on. [all]")

_FORMATS = {"md": tables.markdown, "tex": tables.latex, "csv": tables.comma_separated}


def plan(
    folder: pathlib.Path, seeds: list[str], train: dict[str, Any], evaluate: dict[str, Any]
) -> list[runs.Run]:
    """The runs, one seed after another, so that a whole table is there early."""
    planned = []
    for seed in seeds:
        for variant in ablation.TRAINED:
            given = train | {"variant": variant, "seed": seed}
            if variant == "init":  # it takes no steps
                given.pop("num_steps", None)
            workdir = ablation.workdir_of(folder, variant, seed)
            planned.append(runs.Run(workdir, given, evaluate))
    return planned


def write(results: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes table1.json, .md, .tex and .csv."""
    (folder / "table1.json").write_text(json.dumps(results, indent=1) + "\n")
    for suffix, text_of in _FORMATS.items():
        (folder / f"table1.{suffix}").write_text(text_of(results))


def main() -> None:
    """Trains and evaluates what is not done yet, prints and writes the table."""
    given = command_line.flags_given()
    if own := {"variant", "seed"} & set(given):
        raise ConfigError(
            f"--{own.pop()}: the table has all variants, and --seeds=0,1,2 says which seeds."
        )
    seeds = _SEEDS.value
    if not seeds or len(set(seeds)) < len(seeds) or not all(seed.isdecimal() for seed in seeds):
        raise ConfigError(f"--seeds={','.join(seeds)}: give different numbers from 0 on.")
    folder = pathlib.Path(_WORKDIR.value)
    evaluate = {"num_videos": _NUM_VIDEOS.value, "noise_draws": 1}  # the table has no tighter bound
    runs.carry_out(plan(folder, seeds, given, evaluate), _JOBS.value, _GPUS.value)
    results = ablation.collect(folder, seeds)
    write(results, folder)
    print(tables.markdown(results))
    print(f"Written to {folder}/table1.json, .csv, .md and .tex.")


if __name__ == "__main__":
    cli.run(main)
