"""The numbers of Table I from finished runs: rows, paired differences, labels and baselines.

Two errors are kept apart: the standard error over videos of what all seeds give on average, and
the spread, which is the standard deviation over seeds. `seed_statistics` joins them.
"""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.measuring import machine
from experiments.paper.seed_statistics import summarize
from experiments.running import configurations
from flowvid.config import config_file
from flowvid.config.schema import Config
from flowvid.errors import ConfigError

# The run that gives each row its head and its tail. Neither model depends on what the other one
# sees: the heads of prev_frame and state are the same, and so are the tails of state and
# state_label, bit for bit with one seed (tested). So `state` needs no training of its own.
ROWS = {
    "init": {"head": "init", "tail": "init"},
    "prev_frame": {"head": "prev_frame", "tail": "prev_frame"},
    "state": {"head": "prev_frame", "tail": "state_label"},
    "state_label": {"head": "state_label", "tail": "state_label"},
}
TRAINED = ("init", "prev_frame", "state_label")
DIFFERENCES = {"tail": ("state", "prev_frame"), "head": ("state_label", "state")}
_COPIES = {"logistic": "copy_last_frame_logistic", "histogram": "difference_histogram"}
# What the evaluations of all runs of a table must have in common.
_SHARED = ("dataset", "split", "averaged", "num_videos", "seed", "metrics")


class Evaluated(NamedTuple):
    """A run's configuration and its evaluation."""

    workdir: pathlib.Path
    config: Config
    report: dict[str, Any]
    arrays: dict[str, np.ndarray]


def workdir_of(folder: pathlib.Path, variant: str, seed: int) -> pathlib.Path:
    """Returns the folder of the run of a variant and a seed."""
    return folder / f"{variant}-seed{seed}"


def read(folder: pathlib.Path, seeds: list[int]) -> dict[str, list[Evaluated]]:
    """Reads the runs of a table, by variant and in the order of the seeds.

    Raises:
        ConfigError: when a folder holds another run than its name says, or when the runs differ in
            more than variant and seed, or their evaluations in what they were made on.
    """
    runs = {
        variant: [_read_run(workdir_of(folder, variant, seed)) for seed in seeds]
        for variant in TRAINED
    }
    first = runs["state_label"][0]
    for variant, of_variant in runs.items():
        for seed, run in zip(seeds, of_variant, strict=True):
            _check_same(run, {"variant": variant, "seed": seed}, first)
    return runs


def _read_run(workdir: pathlib.Path) -> Evaluated:
    with np.load(workdir / "evaluation.npz") as file:
        arrays = dict(file)
    report = json.loads((workdir / "evaluation.json").read_text(encoding="utf-8"))
    return Evaluated(workdir, config_file.read(workdir)[0], report, arrays)


def _check_same(run: Evaluated, named: dict[str, Any], first: Evaluated) -> None:
    """Checks that a run is the one that its folder's name says, and fits the table's first run."""

    def of_table(run: Evaluated) -> dict[str, Any]:
        report = run.report | {"metrics": list(run.report["metrics"])}
        evaluated = {f"evaluation's {name}": report[name] for name in _SHARED}
        return configurations.fields_of_model(run.config) | evaluated | {"step": report["step"]}

    here, there = of_table(run), of_table(first) | named
    if not run.config.ablation.trains:  # `init` takes no steps
        here, there = (fields | {"num_steps": 0, "step": 0} for fields in (here, there))
    if different := configurations.differences(here, there):
        listed = ", ".join(
            f"{name} is {mine}, not {other}" for name, (mine, other) in different.items()
        )
        raise ConfigError(
            f"{run.workdir} does not fit the table of {first.workdir}: {listed}. Remove done.json "
            "there and run the same command again, or use another --workdir."
        )


def collect(folder: pathlib.Path, seeds: list[int]) -> dict[str, Any]:
    """Returns all numbers of the table whose runs are in `folder`.

    Raises:
        ConfigError: when the runs are not of one table, as `read`.
    """
    runs = read(folder, seeds)
    first = runs["state_label"][0]
    report, settings = first.report, first.config
    metrics, parts, own = list(report["metrics"]), settings.models, settings.metric.name

    def bits(row: str, part: str, metric: str) -> Float[np.ndarray, "seeds videos"]:
        of_seeds = np.stack([run.arrays[f"{metric}/{part}"] for run in runs[ROWS[row][part]]])
        return of_seeds.reshape(*of_seeds.shape[:2], -1).mean(axis=2)

    baselines = runs["prev_frame"][0].arrays
    copies = {name: baselines.get(f"{own}/baselines/{key}") for name, key in _COPIES.items()}
    return {
        "machine": machine.describe(),
        "dataset": report["dataset"],
        "split": report["split"],
        "preset": settings.preset,
        "num_steps": report["step"],
        "seeds": seeds,
        "num_videos": report["num_videos"],
        "own_metric": own,
        "rows": {
            row: {m: {part: summarize(bits(row, part, m)) for part in parts} for m in metrics}
            for row in ROWS
        },
        "differences": {
            part: {m: summarize(bits(better, part, m) - bits(other, part, m)) for m in metrics}
            for part, (better, other) in DIFFERENCES.items()
            if part in parts
        },
        "gain_over_init": {
            row: {part: summarize(bits("init", part, own) - bits(row, part, own)) for part in parts}
            for row in ROWS
            if row != "init"
        },
        "against_copying": {
            name: {row: summarize(bits(row, "tail", own) - of_copy) for row in ROWS}
            for name, of_copy in copies.items()
            if of_copy is not None
        },
        "labels": {
            "bits_per_video": summarize(
                np.stack([run.arrays["labels"] for run in runs["state_label"]])
            ),
            "runs": [run.report["labels"] for run in runs["state_label"]],
        },
        "baselines": {
            m: {"head": r["head_baselines"], "tail": r["baselines"]}
            for m, r in report["metrics"].items()
        },
    }
