"""The paper's Table I: `python -m experiments.table1 --preset=paper_small --seeds=0,1,2`.

Trains each variant with several seeds, evaluates the runs on the validation split, and prints the
paper's table with these numbers beside it and which of the paper's claims hold; with a single seed
none is said to hold. Writes table1.json, .csv, .md and .tex to --workdir. Run the same command
again to resume. All flags of `flowvid.train` but --variant and --seed are passed on to it.
"""

import json
import pathlib
from typing import Any

from absl import flags

from flowvid import cli, fields, paths
from flowvid.config import command_line
from flowvid.errors import ConfigError

command_line.define_flags()
_WORKDIR = fields.path_flag("workdir", "runs/table1", "Run: folder of the runs and the tables.")
_SEEDS = flags.DEFINE_list("seeds", ["0"], "Run: seeds; each variant is trained once with each.")
_JOBS = flags.DEFINE_integer("jobs", 1, "Run: trainings at a time, which share the cores.", 1)
_GPUS = flags.DEFINE_list("gpus", [], "Run: numbers of GPUs; one training at a time on each.")
_NUM_VIDEOS = flags.DEFINE_integer(
    "num_videos", None, "Run: number of videos to evaluate on. [all]"
)


def _plan(
    folder: pathlib.Path, seeds: list[int], train: dict[str, Any], evaluate: dict[str, Any]
) -> list[Any]:
    """Returns the runs, one seed after another, so that a whole table is there early."""
    from experiments.paper import ablation
    from experiments.running.run_processes import Run

    planned = []
    for seed in seeds:
        for variant in ablation.TRAINED:
            given = train | {"variant": variant, "seed": seed}
            if variant == "init":  # it takes no steps
                given.pop("num_steps", None)
            planned.append(Run(ablation.workdir_of(folder, variant, seed), given, evaluate))
    return planned


def _write(results: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes table1.json, .md, .tex and .csv."""
    from experiments.paper import table_formats

    formats = {
        "md": table_formats.markdown,
        "tex": table_formats.latex,
        "csv": table_formats.comma_separated,
    }
    (folder / "table1.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for suffix, text_of in formats.items():
        (folder / f"table1.{suffix}").write_text(text_of(results), encoding="utf-8")


def main() -> None:
    """Trains and evaluates the runs that are not done yet, and prints and writes the table."""
    from experiments.paper import ablation, table_formats
    from experiments.running import run_processes

    given = command_line.flags_given()
    if own := {"variant", "seed"} & set(given):
        raise ConfigError(
            f"--{own.pop()} cannot be given: the table has all variants, and --seeds=0,1,2 sets "
            "the seeds."
        )
    texts = _SEEDS.value
    if not texts or len(set(texts)) < len(texts) or not all(text.isdecimal() for text in texts):
        raise ConfigError(f"--seeds={','.join(texts)}: give different numbers from 0 on.")
    seeds, folder = [int(text) for text in texts], _WORKDIR.value
    paths.output_folder(folder, "use another --workdir")
    # The table does not show the importance-weighted bound.
    evaluate = {"num_videos": _NUM_VIDEOS.value, "noise_draws": 1}
    run_processes.carry_out(_plan(folder, seeds, given, evaluate), _JOBS.value, _GPUS.value)
    results = ablation.collect(folder, seeds)
    _write(results, folder)
    print(table_formats.markdown(results))
    print(f"Written to {folder}/table1.json, .csv, .md and .tex.")


if __name__ == "__main__":
    cli.run(main)
