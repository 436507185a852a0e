"""Summarizes a dataset: labels, grey levels, untrained bits per dimension, a grid of clips."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt8

from flowvid.conditioning.label_names import as_shown
from flowvid.config.metrics import METRICS, Metric
from flowvid.data.datasets import Dataset
from flowvid.sizes import Size
from flowvid.video.pixels import to_grid

Counts = Int[np.ndarray, "3 256"]  # the number of pixels by channel and grey level

_METRICS = ("5-bit", "paper")
_GAP = 2  # pixels between the clips of the grid


class Statistics(NamedTuple):
    """Statistics of the frames of some clips.

    Attributes:
        num_clips: the number of clips.
        counts: the number of pixels by channel and grey level, from 0 to 255.
        black: the fraction of pixels that are 0 in all channels.
        white: the fraction of pixels that are 255 in all channels.
        difference: the mean absolute difference between successive frames, in grey levels; None
            for single images.
    """

    num_clips: int
    counts: Counts
    black: float
    white: float
    difference: float | None


def frame_statistics(videos: Iterable[UInt8[np.ndarray, "time height width 3"]]) -> Statistics:
    """Returns the statistics of all frames of one or more clips of equal shape."""
    counts, black, white, differences = np.zeros((3, 256), np.int64), [], [], []
    for video in videos:
        counts += [np.bincount(video[..., c].ravel(), minlength=256) for c in range(3)]
        black.append((video == 0).all(axis=-1).mean())
        white.append((video == 255).all(axis=-1).mean())
        if len(video) > 1:
            differences.append(np.abs(np.diff(video.astype(np.int16), axis=0)).mean())
    difference = float(np.mean(differences)) if differences else None
    return Statistics(len(black), counts, float(np.mean(black)), float(np.mean(white)), difference)


def mean_and_sd(counts: Counts) -> list[tuple[float, float]]:
    """Returns the mean and standard deviation of each channel, in grey levels."""
    levels, total = np.arange(256), counts.sum(axis=1)
    means = counts @ levels / total
    variances = (counts * (levels - means[:, None]) ** 2).sum(axis=1) / total
    return list(zip(means.tolist(), np.sqrt(variances).tolist(), strict=True))


def mean_square(counts: Counts, metric: Metric) -> float:
    """Returns E[x^2] of dequantised pixels x = a + u, u ~ U[0, w), as E[a^2 + a w + w^2 / 3]."""
    levels = jnp.arange(256, dtype=jnp.uint8).reshape(-1, 1, 1)
    a = np.asarray(to_grid(levels, metric), np.float64).ravel()
    w = 2.0**-metric.n_bits
    return float(np.average(a**2 + a * w + w**2 / 3, weights=counts.sum(axis=0)))


def untrained_bits_per_dim(mean_square: float, metric: Metric) -> float:
    """Returns the bits per dimension of the variant `init`, a rotation under a standard normal."""
    return metric.n_bits + math.log2(2 * math.pi) / 2 + mean_square / (2 * math.log(2))


def summarize(
    dataset: Dataset,
    labels: Int[np.ndarray, " clips"],
    statistics: Statistics,
    measured_label: int | None,
) -> dict[str, Any]:
    """Returns the summary as JSON values.

    Args:
        dataset: the split.
        labels: the labels of all its clips.
        statistics: the statistics of some of its clips.
        measured_label: the index of the label that these clips have in common, or None.
    """
    totals = np.bincount(labels, minlength=len(dataset.label_names)).tolist()
    means, sds = zip(*mean_and_sd(statistics.counts), strict=True)
    squares = {name: mean_square(statistics.counts, METRICS[name]) for name in _METRICS}
    return {
        "dataset": dataset.name,
        "split": dataset.split,
        "num_clips": len(dataset),
        "num_frames": dataset.num_frames,
        "image_size": dataset.image_size.plain,
        "labels": dict(zip(dataset.label_names, totals, strict=True)),
        "statistics": {
            "num_clips": statistics.num_clips,
            "label": None if measured_label is None else dataset.label_names[measured_label],
            "mean": means,
            "sd": sds,
            "black": statistics.black,
            "white": statistics.white,
            "difference": statistics.difference,
        },
        "metrics": {
            name: {
                "mean_square": square,
                "init_bits_per_dim": untrained_bits_per_dim(square, METRICS[name]),
            }
            for name, square in squares.items()
        },
    }


def format_summary(summary: dict[str, Any]) -> str:
    """Returns the summary as text."""
    counts, stats = summary["labels"], summary["statistics"]
    shown = as_shown(list(counts))
    width = max(map(len, shown))
    of_label = "" if stats["label"] is None else f" of {shown[list(counts).index(stats['label'])]}"
    kind = f"clips of {summary['num_frames']} frames" if summary["num_frames"] > 1 else "images"
    lines = [
        f"{summary['dataset']}, split {summary['split']}: {summary['num_clips']} {kind} "
        f"at {Size.of(summary['image_size']).both}",
        *(f"  {n:{width}}  {c:>9}" for n, c in zip(shown, counts.values(), strict=True)),
        f"Frames of {stats['num_clips']} clips{of_label}, in grey levels (0 to 255):",
        f"  {'':18}" + "".join(f"{name:>9}" for name in ("red", "green", "blue")),
    ]
    for key, title in (("mean", "mean"), ("sd", "standard deviation")):
        lines.append(f"  {title:18}" + "".join(f"{value:9.2f}" for value in stats[key]))
    lines.append(f"  {stats['black']:.2%} of pixels are black, {stats['white']:.2%} white")
    if stats["difference"] is not None:
        lines.append(f"  mean |difference| between successive frames: {stats['difference']:.2f}")
    for name, entry in summary["metrics"].items():
        lines.append(
            f"{name} metric: E[x^2] = {entry['mean_square']:.4f}, so the untrained flow (init) has "
            f"{entry['init_bits_per_dim']:.4f} bits per dimension"
        )
    return "\n".join(lines)


def side_by_side(
    videos: UInt8[np.ndarray, "video time height width 3"],
) -> UInt8[np.ndarray, "time sheet_height sheet_width 3"]:
    """Returns one video in which all videos play in a grid, with about as many rows as columns."""
    num_videos, num_frames, height, width, _ = videos.shape
    columns = math.ceil(math.sqrt(num_videos))
    rows = math.ceil(num_videos / columns)
    cells = np.full((rows * columns, num_frames, height + _GAP, width + _GAP, 3), 255, np.uint8)
    cells[:num_videos, :, :height, :width] = videos
    grid = cells.reshape(rows, columns, *cells.shape[1:]).transpose(2, 0, 3, 1, 4, 5)
    return grid.reshape(num_frames, rows * (height + _GAP), columns * (width + _GAP), 3)
