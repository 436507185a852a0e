"""The numbers of Table I from finished runs: rows, paired differences, labels, and what holds.

Two errors are kept apart: the standard error over videos, of what all seeds give a video on
average, and the spread, the standard deviation over seeds.
"""

import json
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments import machine
from flowvid.config import config_file
from flowvid.evaluation.scoring import standard_error

# Which run a row's head and tail are from. Nothing of a model depends on what the other model sees:
# the heads of prev_frame and state are one and the same, and so are the tails of state and
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
_CERTAIN = 2  # standard errors


def workdir_of(folder: pathlib.Path, variant: str, seed: str) -> pathlib.Path:
    """Where the run of a variant and a seed is."""
    return folder / f"{variant}-seed{seed}"


def spread(values: Float[np.ndarray, "seeds videos"]) -> dict[str, Any]:
    """{"mean", "stderr" over videos, "per_seed", "spread" over seeds}; None where there is one."""
    per_seed, per_video = values.mean(axis=1), values.mean(axis=0)
    return {
        "mean": float(values.mean()),
        "stderr": standard_error(per_video),
        "per_seed": per_seed.tolist(),
        "spread": float(per_seed.std(ddof=1)) if len(per_seed) > 1 else None,
    }


def collect(folder: pathlib.Path, seeds: list[str]) -> dict[str, Any]:
    """All numbers of the finished runs in `folder`."""
    reports, numbers = {}, {}
    for variant in TRAINED:
        workdirs = [workdir_of(folder, variant, seed) for seed in seeds]
        reports[variant] = [json.loads((w / "evaluation.json").read_text()) for w in workdirs]
        numbers[variant] = [_arrays(w / "evaluation.npz") for w in workdirs]
    report = reports["state_label"][0]
    settings, _ = config_file.read(workdir_of(folder, "state_label", seeds[0]))

    def bits(row: str, part: str, metric: str) -> Float[np.ndarray, "seeds videos"]:
        of_seeds = np.stack([run[f"{metric}/{part}"] for run in numbers[ROWS[row][part]]])
        return of_seeds.reshape(*of_seeds.shape[:2], -1).mean(axis=2)

    metrics, parts = list(report["metrics"]), settings.models
    own = settings.metric.name
    trivial = numbers["prev_frame"][0]
    copies = {name: trivial.get(f"{own}/baselines/{key}") for name, key in _COPIES.items()}
    return {
        "machine": machine.describe(),
        "dataset": report["dataset"],
        "split": report["split"],
        "preset": settings.preset,
        "num_steps": report["step"],
        "seeds": [int(seed) for seed in seeds],
        "num_videos": report["num_videos"],
        "own_metric": own,
        "rows": {
            row: {m: {part: spread(bits(row, part, m)) for part in parts} for m in metrics}
            for row in ROWS
        },
        "differences": {
            part: {m: spread(bits(better, part, m) - bits(other, part, m)) for m in metrics}
            for part, (better, other) in DIFFERENCES.items()
            if part in parts
        },
        "against_copying": {
            name: {row: spread(bits(row, "tail", own) - of_copy) for row in ROWS}
            for name, of_copy in copies.items()
            if of_copy is not None
        },
        "labels": {
            "bits_per_video": spread(np.stack([run["labels"] for run in numbers["state_label"]])),
            "runs": [r["labels"] for r in reports["state_label"]],
        },
        "baselines": {
            m: {"head": r["head_baselines"], "tail": r["baselines"]}
            for m, r in report["metrics"].items()
        },
    }


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def number(entry: dict[str, Any], digits: int = 3) -> str:
    """Mean ± standard error (spread over seeds), as far as there are any."""
    text = f"{entry['mean']:.{digits}f}"
    if entry["stderr"] is not None:
        text += f" ± {entry['stderr']:.{digits}f}"
    if entry["spread"] is not None:
        text += f" ({entry['spread']:.{digits}f})"
    return text


def _certainly(entry: dict[str, Any], sign: int) -> bool:
    return entry["stderr"] is not None and sign * entry["mean"] > _CERTAIN * entry["stderr"]


def claims(results: dict[str, Any]) -> list[str]:
    """What the paper says of its table, and whether it is so here, with the numbers."""
    own, rows = results["own_metric"], results["rows"]
    parts = list(rows["init"][own])
    gaps = [
        rows["init"][own][part]["mean"] - rows[row][own][part]["mean"]
        for row in ROWS
        if row != "init"
        for part in parts
    ]
    lines = [
        f"Trained models beat `init`, as in the paper: {'yes' if min(gaps) > 0 else 'no'}; the "
        f"smallest gap is {min(gaps):.3f} bits per dimension ({own})."
    ]
    if "tail" in results["differences"]:
        gain = results["differences"]["tail"][own]
        lines.append(
            "The state helps the tail, as in the paper: "
            f"{_verdict(gain, -1)}; `state` minus `prev_frame` is {number(gain, 4)} ({own}, paired "
            "over videos; negative is better)."
        )
    head = results["differences"]["head"][own]
    of_labels = results["labels"]
    known = [run["accuracy"] for run in of_labels["runs"]]
    one = of_labels["runs"][0]
    lines += [
        "Labels make the head worse in bits per dimension, as in the paper: "
        f"{_verdict(head, 1)}; `state_label` minus `state` is {number(head, 4)} ({own}).",
        "Labels are of no use to the head, as in the paper: "
        f"{'no' if _certainly(of_labels['bits_per_video'], 1) else 'yes'}; label bits are "
        f"{number(of_labels['bits_per_video'])} a video (at most {one['most_bits']:.2f}), Bayes "
        f"accuracy {', '.join(f'{a:.3f}' for a in known)} (± {one['accuracy_stderr'] or 0:.3f}; "
        f"chance {one['chance']:.3f}).",
    ]
    worse = [
        f"{row} ({name})"
        for name, of_rows in results["against_copying"].items()
        for row, entry in of_rows.items()
        if row != "init" and entry["mean"] > 0
    ]
    if results["against_copying"]:
        lines.append(
            f"Worse on later frames than copying the last one: {', '.join(worse) or 'none'}."
        )
    return lines


def _verdict(entry: dict[str, Any], sign: int) -> str:
    """Whether the entry has the sign for certain, has the other one, or neither."""
    if _certainly(entry, sign):
        return "yes"
    return "no" if _certainly(entry, -sign) else "not certain"
