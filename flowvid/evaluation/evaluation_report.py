"""Evaluates a model: held-out bits per dimension, baselines and label information."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from flowvid import paths
from flowvid.arrays import CHANNELS
from flowvid.config.metrics import METRICS, Metric
from flowvid.data import datasets
from flowvid.errors import ConfigError
from flowvid.evaluation import baselines, label_reports, scoring
from flowvid.evaluation.baselines import BaselineBits
from flowvid.evaluation.bounds import importance_weighted, mean_and_stderr
from flowvid.evaluation.scoring import Scores
from flowvid.evaluation.task import Task
from flowvid.evaluation.text_report import Report
from flowvid.sizes import Size
from flowvid.video.model import Model


class Evaluation(NamedTuple):
    """The report, and the numbers per video by their names.

    The report is {"variant", "step", "checkpoint", "checkpoint_chosen_on", "averaged", "dataset",
    "split", "num_videos", "seed", "metrics": {name: {"head": {"bits_per_dim", "stderr"}, "tail":
    {..., "per_frame"}, "baselines": {...}, "head_baselines": {...}, "importance_weighted":
    {"draws", "head", "tail"}}}, "labels": of first frames, as of `label_information.report`
    and "images", "video_labels": of whole videos, where the tail sees the label, "latent_labels":
    the same with what the tail is told as a latent variable, and "shares": p(told | label) by the
    names of both}, with standard errors over videos. "baselines" are those of the later frames.
    "checkpoint_chosen_on" is "validation" for the best checkpoint. What does not apply is None,
    such as the "tail" of single images.

    Per video, there are "5-bit/head" [N], "5-bit/tail" [N, T - 1], "5-bit/baselines/png" [N],
    "labels" [M], "video_labels" [M], "latent_labels" [M] of the first M videos, ...
    """

    report: Report
    per_video: dict[str, np.ndarray]


def evaluate(
    model: Model,
    train: datasets.Dataset,
    split: datasets.Dataset,
    *,
    metrics: Sequence[str],
    num_videos: int,
    seed: int,
    noise_draws: int = 1,
    label_videos: int | None = None,
    latent_label_videos: int = 0,
    checkpoint: str = "last",
    keep_in: pathlib.Path | None = None,
) -> Evaluation:
    """Returns the report that `flowvid.evaluate` prints, and the numbers per video.

    Args:
        model: the run's model.
        train: clips on which the baselines are fitted and the labels are counted.
        split: clips to score, the first `num_videos` of them.
        metrics: names in `flowvid.config.metrics.METRICS`.
        num_videos: number of videos.
        seed: seed of the dequantisation noise.
        noise_draws: draws of the importance-weighted bound; with 1 it is not computed, nor for a
            flow that models bins, whose bits do not depend on the noise.
        label_videos: number of videos on which labels are compared, the first ones; by default,
            and at most, `num_videos`.
        latent_label_videos: number of clips of `train`, the first ones and at most all, on which
            p(told | label) of "latent_labels" is estimated; 0 leaves these out.
        checkpoint: how the model's checkpoint was chosen, as for `flowvid.load`: "last", "best" or
            a step.
        keep_in: folder for intermediate results, from which the same evaluation is resumed. Once
            the report is written, `forget` removes it.

    Raises:
        TrainingError: if a video's likelihood is non-finite.
        ConfigError: for latent labels of a model whose tail sees no label.
    """
    if latent_label_videos and not scoring.tail_sees_label(model.config):
        raise ConfigError(
            f"--latent_label_videos={latent_label_videos} needs a tail that sees the label, and "
            f"that of --variant={model.config.variant} does not: leave the flag out."
        )
    task = Task(model, train, split, num_videos, seed, keep_in)
    exact, of_bins = model.config.models_bins, None
    results: dict[str, Any] = {}
    per_video: dict[str, np.ndarray] = {}
    for name in metrics:
        metric = METRICS[name]
        if exact:
            # Each bin that is half as wide has half of the mass, one bit more: the density is
            # constant in the flow's own bins.
            of_bins = of_bins or _score(task, model.config.metric, noise_draws=1)[0]
            draws = [of_bins.plus(metric.n_bits - model.config.n_bits)]
        else:
            draws = _score(task, metric, noise_draws if metric.floor else 1)
        of_baselines = _evaluate_baselines(task, metric)
        results[name] = _summarize(draws, of_baselines, split.image_size)
        per_video |= {f"{name}/head": draws[0].head, f"{name}/tail": draws[0].tail}
        per_video |= {f"{name}/baselines/{n}": bits for n, bits in of_baselines.tail.items()}
    of_labels: dict[str, Any] = {"labels": None, "video_labels": None, "latent_labels": None}
    if model.config.ablation.uses_labels:
        compared = num_videos if label_videos is None else min(label_videos, num_videos)
        compared_task = dataclasses.replace(task, num_videos=compared)
        found, bits = label_reports.evaluate(compared_task, latent_label_videos)
        of_labels |= found
        per_video |= bits
    report = {
        "variant": model.config.variant,
        "step": model.step,
        "checkpoint": checkpoint,
        "checkpoint_chosen_on": "validation" if checkpoint == "best" else None,
        "averaged": model.averaged,
        "dataset": split.name,
        "split": split.split,
        "num_videos": num_videos,
        "seed": seed,
        "metrics": results,
        "of_bins": exact,
    } | of_labels
    return Evaluation(report, per_video)


def _score(task: Task, metric: Metric, noise_draws: int) -> list[Scores]:
    """Returns the bits of the models under each noise draw."""
    config = task.model.config
    compiled = scoring.evaluator(config, metric)
    draws = []
    for draw in range(noise_draws):
        scores = scoring.score(
            compiled,
            task.params,
            scoring.Noise(task.seed, draw=draw),
            task.split,
            config.batch_size,
            task.num_videos,
            metric.name + f", noise draw {draw + 1}" * (noise_draws > 1),
            kept=task.kept("scores", "model", "videos", "noise", metric=metric.name, draw=draw),
        )
        assert scores is not None  # it is never stopped
        draws.append(scores)
    return draws


def _evaluate_baselines(task: Task, metric: Metric) -> BaselineBits:
    """Returns the baselines' bits; they are kept as a whole, because codecs take long."""
    kept = task.kept("baselines", "train", "videos", "baselines", metric=metric.name)
    if kept is not None and (arrays := kept.read()):
        head, tail = (
            {n.removeprefix(part): bits for n, bits in arrays.items() if n.startswith(part)}
            for part in ("head/", "tail/")
        )
        return BaselineBits(head, tail)
    found = baselines.evaluate(task.train, task.split, metric, task.num_videos)
    if kept is not None and found.head:
        named = (("head/", found.head), ("tail/", found.tail))
        kept.write({part + n: bits for part, of_part in named for n, bits in of_part.items()})
    return found


def _summarize(
    draws: Sequence[Scores], of_baselines: BaselineBits, image_size: Size
) -> dict[str, Any]:
    """Returns the report's entry of one metric."""
    head, tail = np.stack([d.head for d in draws]), np.stack([d.tail for d in draws])
    has_tail = tail.shape[-1] > 0
    result: dict[str, Any] = {
        "head": mean_and_stderr(head[0]),
        "tail": None,
        "baselines": {name: mean_and_stderr(bits) for name, bits in of_baselines.tail.items()},
        "head_baselines": {name: mean_and_stderr(bits) for name, bits in of_baselines.head.items()},
        "importance_weighted": None,
    }
    if has_tail:
        per_frame = {"per_frame": tail[0].mean(axis=0).tolist()}
        result["tail"] = mean_and_stderr(tail[0].mean(axis=1)) | per_frame
    if len(draws) > 1:
        head, tail = (
            importance_weighted(bits, CHANNELS * image_size.pixels) for bits in (head, tail)
        )
        result["importance_weighted"] = {
            "draws": len(draws),
            "head": mean_and_stderr(head),
            "tail": mean_and_stderr(tail.mean(axis=1)) if has_tail else None,
        }
    return result


def write(evaluation: Evaluation, workdir: str | pathlib.Path) -> pathlib.Path:
    """Writes evaluation.json, and evaluation.npz with the numbers per video, to a run's folder.

    Returns:
        The path of evaluation.json.
    """
    workdir = paths.expand(workdir)
    temporary = workdir / "evaluation.tmp"
    with temporary.open("wb") as file:
        np.savez_compressed(file, **evaluation.per_video)  # type: ignore[arg-type]
    temporary.replace(workdir / "evaluation.npz")
    temporary.write_text(
        json.dumps(evaluation.report, indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    path = workdir / "evaluation.json"
    temporary.replace(path)
    return path


def forget(keep_in: pathlib.Path) -> None:
    """Removes the intermediate results of an evaluation whose report is written."""
    shutil.rmtree(keep_in, ignore_errors=True)
