"""The report of an evaluation: held-out bits per dimension, trivial answers, what labels do."""

import hashlib
import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from flowvid.config import config_file
from flowvid.config.metrics import METRICS, Metric
from flowvid.data import datasets
from flowvid.errors import TrainingError
from flowvid.evaluation import baselines, label_information, scoring
from flowvid.evaluation.partial_results import PartialResults
from flowvid.evaluation.scoring import Scores
from flowvid.parallel.devices import replicate
from flowvid.video.model import Model

Report = dict[str, Any]
TITLES = {
    "copy_last_frame_logistic": "copy last frame, logistic",
    "difference_histogram": "copy last frame, histogram",
    "independent_pixels": "independent pixels",
    "png": "PNG",
    "ffv1": "FFV1",
    "h264_lossless": "H.264, lossless RGB",
}


class Evaluation(NamedTuple):
    """What is written: the report, and one number a video (or a video and frame) by its name."""

    report: Report
    per_video: dict[str, np.ndarray]


def mean_and_stderr(per_video: Float[np.ndarray, " videos"]) -> dict[str, float | None]:
    """The mean over videos and its standard error (None for a single video).

    Raises:
        TrainingError: if a video's likelihood is not finite.
    """
    if not np.isfinite(per_video).all():
        bad = int((~np.isfinite(per_video)).sum())
        raise TrainingError(
            f"{bad} of {len(per_video)} videos have no finite likelihood: the model has diverged, "
            "so there is no number to report; train again with a lower --learning_rate or more "
            "--warmup_steps."
        )
    stderr = scoring.standard_error(per_video)
    return {"bits_per_dim": float(np.mean(per_video)), "stderr": stderr}


def importance_weighted(
    bits: Float[np.ndarray, "draws *shape"], num_dims: int
) -> Float[np.ndarray, "*shape"]:
    """The bound of several noise draws together, in bits per dimension.

    -1/D log2 of the mean over draws of 2^(-D bits): it is between the mean of the draws' bounds and
    the code length of the n-bit frame, nearer the more draws (Burda et al. 2016).
    """
    nats = logsumexp(-bits * num_dims * np.log(2), axis=0) - np.log(len(bits))
    return -nats / (num_dims * np.log(2))


def _later_frames(bits: Float[np.ndarray, "videos later_frames"]) -> dict[str, Any] | None:
    if not bits.shape[1]:
        return None
    return mean_and_stderr(bits.mean(axis=1)) | {"per_frame": bits.mean(axis=0).tolist()}


def _digest(model: Model) -> str:
    """Names the parameters: what was kept of others is not taken for these's."""
    digest = hashlib.sha256(
        json.dumps(config_file.to_dict(model.config, model.label_names)).encode()
    )
    for leaf in jax.tree.leaves(model.params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def evaluate(
    model: Model,
    train: datasets.Dataset,
    split: datasets.Dataset,
    *,
    metrics: Sequence[str],
    num_videos: int,
    seed: int,
    noise_draws: int = 1,
    keep_in: pathlib.Path | None = None,
) -> Evaluation:
    """The report that `flowvid.evaluate` prints and writes.

    Args:
        model: the run's.
        train: clips that the baselines are fitted on.
        split: clips to score, the first `num_videos` of them.
        metrics: names of `flowvid.likelihood.METRICS`.
        num_videos: how many.
        seed: of the dequantisation noise.
        noise_draws: of the importance-weighted bound; with one there is none.
        keep_in: a folder for what is done while more is to come; the same evaluation goes on from
            it. Whoever has written the report may remove it: `forget`.

    Returns:
        The report {"variant", "step", "averaged", "num_videos", "metrics": {name: {"head":
        {"bits_per_dim", "stderr"}, "tail": {..., "per_frame"}, "baselines": {...},
        "head_baselines": {...}, "importance_weighted": {"draws", "head", "tail"}}}, "labels", ...},
        standard errors over videos; the "tail" of single images is None, as is what there is not.
        Per video, "5-bit/head" [N], "5-bit/tail" [N, T - 1], "labels" [N], ...
    """
    params = replicate(model.params)
    identity = {
        "params": _digest(model),
        "dataset": [split.name, split.split, len(split), split.num_frames, split.image_size],
        "num_videos": num_videos,
        "seed": seed,
    }

    def kept(**what: Any) -> PartialResults | None:
        return None if keep_in is None else PartialResults(keep_in, identity | what)

    results: dict[str, Any] = {}
    per_video: dict[str, np.ndarray] = {}
    for name in metrics:
        metric = METRICS[name]
        compiled = scoring.evaluator(model.config, metric, seed)
        draws = []
        for draw in range(noise_draws if metric.floor else 1):
            scores = scoring.score(
                compiled,
                params,
                split,
                model.config.batch_size,
                num_videos,
                f"{name}, noise draw {draw + 1}",
                kept=kept(metric=name, draw=draw),
                draw=draw,
            )
            assert scores is not None  # nobody stops it
            draws.append(scores)
        answers = _answers(train, split, metric, num_videos, kept(metric=name, answers=True))
        results[name] = _of_metric(draws, answers, split)
        per_video |= {f"{name}/head": draws[0].head, f"{name}/tail": draws[0].tail}
        per_video |= {f"{name}/baselines/{n}": bits for n, bits in answers.tail.items()}
    of_labels = None
    if model.config.ablation.uses_labels:
        log2_p = scoring.label_log2_probs(
            model.config, params["head"], split, num_videos, seed, kept(labels=True)
        )
        own = _labels(split, num_videos)
        of_labels = label_information.report(log2_p, own, model.label_names)
        of_labels["images"] = label_information.distance(model.config, model.params["head"])
        per_video["labels"] = label_information.label_bits(log2_p, own)
    report = {
        "variant": model.config.variant,
        "step": model.step,
        "averaged": model.averaged,
        "dataset": split.name,
        "split": split.split,
        "num_videos": num_videos,
        "seed": seed,
        "metrics": results,
        "labels": of_labels,
    }
    return Evaluation(report, per_video)


def _answers(
    train: datasets.Dataset,
    split: datasets.Dataset,
    metric: Metric,
    num_videos: int,
    kept: PartialResults | None,
) -> baselines.Answers:
    """The trivial answers, kept as a whole: the codecs among them take long."""
    found = {} if kept is None else kept.read()
    if found:
        of_parts: dict[str, dict[str, np.ndarray]] = {"head": {}, "tail": {}}
        for name, bits in found.items():
            part, _, answer = name.partition("/")
            of_parts[part][answer] = bits
        return baselines.Answers(**of_parts)
    answers = baselines.answers(train, split, metric, num_videos)
    if kept is not None and answers.head:
        kept.write(
            {
                f"{p}/{n}": bits
                for p, of_part in answers._asdict().items()
                for n, bits in of_part.items()
            }
        )
    return answers


def _labels(split: datasets.Dataset, num_videos: int) -> np.ndarray:
    batches = datasets.eval_batches(split, batch_size=16, num_videos=num_videos)
    return np.concatenate([batch["label"][batch["mask"] > 0] for batch in batches])


def _of_metric(
    draws: Sequence[Scores], answers: baselines.Answers, split: datasets.Dataset
) -> dict[str, Any]:
    tail = _later_frames(draws[0].tail)
    result = {
        "head": mean_and_stderr(draws[0].head),
        "tail": tail,
        "baselines": {name: mean_and_stderr(bits) for name, bits in answers.tail.items()},
        "head_baselines": {name: mean_and_stderr(bits) for name, bits in answers.head.items()},
        "importance_weighted": None,
    }
    if len(draws) > 1:
        dims = 3 * split.image_size**2
        head, frames = (
            importance_weighted(np.stack([getattr(scores, part) for scores in draws]), dims)
            for part in ("head", "tail")
        )
        result["importance_weighted"] = {
            "draws": len(draws),
            "head": mean_and_stderr(head),
            "tail": mean_and_stderr(frames.mean(axis=1)) if tail is not None else None,
        }
    return result


def format_report(report: Report) -> str:
    """The report as a table for the terminal: one row an answer, one column a metric."""

    def cell(entry: dict[str, Any] | None) -> str:
        if entry is None:
            return "-"
        stderr = entry["stderr"]
        return f"{entry['bits_per_dim']:.4f}" + ("" if stderr is None else f" ± {stderr:.4f}")

    metrics = list(report["metrics"].values())

    def rows(title: str, part: str, answers: str) -> dict[str, list[Any]]:
        table = {title: [m[part] for m in metrics]}
        bounds = [m["importance_weighted"] or {} for m in metrics]
        if draws := max(bound.get("draws", 0) for bound in bounds):
            table[f"  the same, {draws} noise draws"] = [bound.get(part) for bound in bounds]
        for name in TITLES:
            entries = [m[answers].get(name) for m in metrics]
            if any(entries):
                table["  " + TITLES[name]] = entries
        return table

    tables = [rows("first frame (head)", "head", "head_baselines")]
    if any(m["tail"] for m in metrics):
        tables.append(rows("next frames (tail)", "tail", "baselines"))
    average = " (moving average)" if report["averaged"] else ""
    counted = "videos" if len(tables) > 1 else "images"
    lines = [
        f"{report['variant']}, step {report['step']}{average}: bits per dimension, mean ± standard "
        f"error over {report['num_videos']} {counted} of {report['dataset']} {report['split']}",
        f"{'':30}" + "".join(f"{name + ' metric':>20}" for name in report["metrics"]),
    ]
    for table in tables:
        for title, entries in table.items():
            lines.append(f"{title:30}" + "".join(f"{cell(entry):>20}" for entry in entries))
    if report["labels"] is not None:
        lines.append(_format_labels(report["labels"]))
    return "\n".join(lines)


def _format_labels(of_labels: dict[str, Any]) -> str:
    error = lambda name: "" if of_labels[name] is None else f" ± {of_labels[name]:.3f}"  # noqa: E731
    images = of_labels["images"]
    return (
        f"labels: {of_labels['bits_per_video']:.3f}{error('stderr')} bits a video (at most "
        f"{of_labels['most_bits']:.2f} with {of_labels['num_labels']} labels); Bayes accuracy "
        f"{of_labels['accuracy']:.3f}{error('accuracy_stderr')} (chance {of_labels['chance']:.3f})"
        f"\nlabel images: a pixel has moved by {images['moved']:.3g} (root mean square; "
        f"{images['least']:.3g} to {images['most']:.3g} a label) from a start of "
        f"{images['start']:.3g}"
    )


def write(evaluation: Evaluation, workdir: pathlib.Path) -> pathlib.Path:
    """Writes evaluation.json, and one number a video to evaluation.npz beside it.

    Returns:
        The path of the former.
    """
    temporary = workdir / "evaluation.tmp"
    with temporary.open("wb") as file:
        np.savez_compressed(file, **evaluation.per_video)  # type: ignore[arg-type]
    temporary.replace(workdir / "evaluation.npz")
    temporary.write_text(json.dumps(evaluation.report, indent=2, allow_nan=False) + "\n")
    path = workdir / "evaluation.json"
    temporary.replace(path)
    return path


def forget(keep_in: pathlib.Path) -> None:
    """Removes what was kept of an evaluation whose report is written."""
    shutil.rmtree(keep_in, ignore_errors=True)
