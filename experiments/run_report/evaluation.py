"""The evaluation that the report page shows: a saved one if it fits, or else a new one."""

import json
import pathlib
from typing import Any

from absl import logging

from flowvid.data import datasets
from flowvid.evaluation import evaluation_report, text_report
from flowvid.evaluation.text_report import Report
from flowvid.video.model import Model

_SEED, _NOISE_DRAWS = 0, 4  # the defaults of `flowvid.evaluate`


def what_it_is_of(model: Model, held_out: datasets.Dataset) -> dict[str, Any]:
    """Returns all that the page's evaluation depends on, by its names in the report.

    The number of noise draws is not among them: it adds a row to the report and changes no other.
    """
    return {
        "variant": model.config.variant,
        "step": model.step,
        "checkpoint": "last",
        "averaged": model.averaged,
        "dataset": held_out.name,
        "split": held_out.split,
        "num_videos": len(held_out),
        "seed": _SEED,
        "metrics": list(model.config.metric_names),
    }


def _saved(folder: pathlib.Path, wanted: dict[str, Any]) -> Report | None:
    """Returns the evaluation that a folder holds, or None if it is not the wanted one.

    One that has been written by another version of flowvid, and lacks something, is not.
    """
    path = folder / "evaluation.json"
    if not path.exists():
        return None
    report: Report = json.loads(path.read_text(encoding="utf-8"))
    found = report | {"metrics": list(report.get("metrics", ()))}
    if different := [name for name, value in wanted.items() if found.get(name) != value]:
        logging.warning("%s is not shown: its %s differs.", path, ", ".join(different))
        return None
    try:
        text_report.format_report(report)
    except (KeyError, TypeError):
        return None
    return report


def evaluation_of(
    workdir: pathlib.Path, model: Model, train: datasets.Dataset, held_out: datasets.Dataset
) -> Report:
    """Returns the evaluation of a run's last checkpoint on its own validation split.

    It is made if it is not there. The user's evaluation.json is never replaced: where there is
    another one, the page's own is written to `workdir`/report_evaluation.

    Args:
        workdir: the run's.
        model: its last checkpoint.
        train: clips to fit the baselines on.
        held_out: clips to evaluate on.
    """
    wanted = what_it_is_of(model, held_out)
    own = workdir / "report_evaluation"
    for folder in (workdir, own):
        if (report := _saved(folder, wanted)) is not None:
            return report
    folder = own if (workdir / "evaluation.json").exists() else workdir
    folder.mkdir(exist_ok=True)
    keep_in = folder / "unfinished_evaluation"
    result = evaluation_report.evaluate(
        model,
        train,
        held_out,
        metrics=wanted["metrics"],
        num_videos=wanted["num_videos"],
        seed=_SEED,
        noise_draws=_NOISE_DRAWS,
        keep_in=keep_in,
    )
    evaluation_report.write(result, folder)
    evaluation_report.forget(keep_in)
    return result.report
