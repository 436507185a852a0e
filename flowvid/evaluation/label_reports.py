"""Evaluates what labels tell of first frames and of whole videos, by the name of each report."""

import dataclasses
from typing import Any

import numpy as np

from flowvid.evaluation import label_information, latent_labels, scoring
from flowvid.evaluation.task import Task


def evaluate(task: Task, latent_label_videos: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns reports on label information, and label bits per video, by their names.

    They are of first frames, where the head sees the label, and of whole videos, where the tail
    does.
    """
    model = task.model
    counts = label_information.count_labels(task.train, task.kept("label counts", "train"))
    log2_p, labels = _label_log2_probs(task)
    known = {"labels": log2_p.first_frame} if model.config.sees("head").label else {}
    shares = None
    if log2_p.video is not None:
        known["video_labels"] = log2_p.video
        if latent_label_videos:
            shares = _shares(task, min(latent_label_videos, len(task.train)))
            known["latent_labels"] = latent_labels.log2_p_of_videos(
                log2_p.first_frame, log2_p.video, shares
            )
    names = model.label_names
    reports = {
        name: label_information.report(values, labels, names, counts)
        for name, values in known.items()
    }
    if "labels" in reports:
        reports["labels"]["images"] = label_information.distance(model.config, model.params["head"])
    if shares is not None:
        reports["latent_labels"]["shares"] = {
            label: dict(zip(names, map(float, of_label), strict=True))
            for label, of_label in zip(names, shares, strict=True)
        }
    prior = counts / counts.sum()
    return reports, {
        name: label_information.label_bits(values, labels, prior) for name, values in known.items()
    }


def _shares(task: Task, num_videos: int) -> latent_labels.Shares:
    """Returns p(told | label), estimated on clips of the training split."""
    of_train = dataclasses.replace(task, split=task.train, num_videos=num_videos)
    log2_p, labels = _label_log2_probs(of_train)
    assert log2_p.video is not None  # the tail sees the label
    return latent_labels.estimate_shares(log2_p.video - log2_p.first_frame, labels)


def _label_log2_probs(task: Task) -> tuple[scoring.LabelLog2Probs, np.ndarray]:
    """Returns log2 p(. | y) of the task's videos for every y, and their labels."""
    split, num_videos = task.split, task.num_videos
    kept = task.kept("label log2 p", "model", "videos", "noise")
    log2_p = scoring.label_log2_probs(
        task.model.config, task.params, split, num_videos, task.seed, kept
    )
    title = f"{split.split} labels"
    return log2_p, label_information.read_labels(split, range(num_videos), title)
