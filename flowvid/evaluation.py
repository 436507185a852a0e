"""Held-out bits per dimension of head and tail, and the trivial answers beside them."""

import json
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PyTree, UInt8
from scipy import optimize
from scipy.special import log_expit
from tqdm import tqdm

from flowvid import data, distributed, steps
from flowvid.config import Config
from flowvid.errors import TrainingError
from flowvid.likelihood import METRICS, Metric
from flowvid.model import Model

Videos = UInt8[np.ndarray, "batch frames height width channels"]


class Scores(NamedTuple):
    """Bits per dimension of every video: first frame [N], and each later frame [N, T - 1]."""

    head: Float[np.ndarray, " videos"]
    tail: Float[np.ndarray, "videos later_frames"]


def evaluator(config: Config, metric: Metric, seed: int) -> Any:
    """The compiled evaluation step under a metric; keep it to compile once a run.

    It takes parameters and this process's share of a batch, and gives each device the bits of the
    whole batch, with the videos' indices: devices may stand in any order.
    """

    def body(params: PyTree, batch: steps.Batch) -> Any:
        bits = steps.eval_step(config, metric, seed, params, batch)
        return steps.gather((batch.example, bits))

    return steps.on_devices(body)


def score(
    step: Any,
    params: PyTree,
    dataset: data.Dataset,
    batch_size: int,
    num_videos: int,
    title: str,
    stopped: Callable[[], bool] = lambda: False,
) -> Scores | None:
    """Scores the first `num_videos` videos of a split, each exactly once, in every process.

    Args:
        step: from `evaluator`.
        params: of the run's models, by name, replicated over the devices.
        dataset: the split.
        batch_size: videos at once, over all devices of all processes; rounded up to a multiple of
            their number, so that a run can be evaluated on other machines than it was trained on.
        num_videos: at most the length of the split.
        title: for the progress bar.
        stopped: asked before each batch; once it is true there is no result, None.
    """
    devices = jax.device_count()
    batch_size = math.ceil(batch_size / devices) * devices
    share = batch_size // jax.process_count()
    own = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    head, tail = np.zeros(num_videos), np.zeros((num_videos, dataset.num_frames - 1))
    silent = not distributed.is_first()
    with tqdm(total=num_videos, desc=title, unit="video", leave=False, disable=silent) as bar:
        for batch in data.eval_batches(dataset, batch_size=batch_size, num_videos=num_videos):
            if stopped():
                return None
            arrays = steps.Batch(*(batch[name][own] for name in ("video", "label", "index")))
            index, bits = steps.unreplicate(step(params, steps.shard(arrays)))
            head[index], tail[index] = bits  # a copy that fills up a batch says the same again
            bar.update(int(batch["mask"].sum()))
    return Scores(head, tail)


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
    n = len(per_video)
    stderr = float(np.std(per_video, ddof=1) / math.sqrt(n)) if n > 1 else None
    return {"bits_per_dim": float(np.mean(per_video)), "stderr": stderr}


def _quantized(videos: Videos, metric: Metric) -> np.ndarray:
    return videos >> (8 - metric.n_bits)


def transition_counts(
    videos: Iterable[Videos], metric: Metric
) -> Float[np.ndarray, "levels levels"]:
    """How often a pixel of n-bit value k' is followed by k in the next frame: counts [k', k]."""
    size = 2**metric.n_bits
    counts = np.zeros(size * size)
    for video in videos:
        q = _quantized(video, metric).astype(np.int64)
        pairs = q[:, :-1] * size + q[:, 1:]
        counts += np.bincount(pairs.reshape(-1), minlength=size * size)
    return counts.reshape(size, size)


def logistic_bits(scale: float, size: int) -> Float[np.ndarray, "levels levels"]:
    """-log2 P(k | k') of a logistic around k', discretised to `size` values, tails at the edges."""
    k = np.arange(size)
    low, high = ((k[None] + side - k[:, None]) / scale for side in (-0.5, 0.5))
    low[:, 0], high[:, -1] = -np.inf, np.inf
    # log(s(high) - s(low)) = log s(high) + log s(-low) + log(1 - exp(low - high)), exact in tails.
    log_p = log_expit(high) + log_expit(-low) + np.log1p(-np.exp(low - high))
    return -log_p / math.log(2)


def fit_logistic(
    counts: Float[np.ndarray, "levels levels"],
) -> tuple[float, Float[np.ndarray, "levels levels"]]:
    """The scale (in n-bit levels) under which `counts` cost the fewest bits, and its table."""
    size = len(counts)

    def cost(log_scale: float) -> float:
        return float(np.sum(counts * logistic_bits(math.exp(log_scale), size)))

    best = optimize.minimize_scalar(cost, bounds=(math.log(1e-3), math.log(size)), method="bounded")
    scale = math.exp(best.x)
    return scale, logistic_bits(scale, size)


def difference_bits(
    counts: Float[np.ndarray, "levels levels"],
) -> Float[np.ndarray, "levels levels"]:
    """-log2 P(k | k') by the histogram of differences k - k', one added to each count.

    Normalised over the values that k can take, so that nothing is lost at the edges.
    """
    size = len(counts)
    difference = np.arange(size)[None] - np.arange(size)[:, None] + size - 1
    histogram = np.bincount(difference.reshape(-1), counts.reshape(-1), 2 * size - 1) + 1
    weights = histogram[difference]
    return -np.log2(weights / weights.sum(axis=1, keepdims=True))


def table_bits(
    table: Float[np.ndarray, "levels levels"], videos: Videos, metric: Metric
) -> Float[np.ndarray, " batch"]:
    """Mean bits per dimension of each video's frames after the first, by a table of [k', k]."""
    q = _quantized(videos, metric)
    return table[q[:, :-1], q[:, 1:]].mean(axis=(1, 2, 3, 4))


def _videos(dataset: data.Dataset, num_videos: int) -> Iterator[Videos]:
    for batch in data.eval_batches(dataset, batch_size=16, num_videos=num_videos):
        yield batch["video"][batch["mask"] > 0]


def baselines(
    train: data.Dataset, split: data.Dataset, metric: Metric, num_videos: int
) -> dict[str, Any]:
    """Copy-the-last-frame on the frames that the tail is scored on, fitted on training clips.

    Two ways to hedge the copy: a discretised logistic around it, and the histogram of differences.
    Neither is a density of unfloored pixels, so there are none under the paper's metric; nor are
    there any for single images.
    """
    if not metric.floor or split.num_frames == 1:
        return {}
    fit_on = min(len(train), 256)
    counts = transition_counts(_videos(train, fit_on), metric)
    scale, logistic = fit_logistic(counts)
    tables = {"copy_last_frame_logistic": logistic, "difference_histogram": difference_bits(counts)}
    bits: dict[str, list[np.ndarray]] = {name: [] for name in tables}
    for videos in _videos(split, num_videos):
        for name, table in tables.items():
            bits[name].append(table_bits(table, videos, metric))
    report = {name: mean_and_stderr(np.concatenate(parts)) for name, parts in bits.items()}
    report["copy_last_frame_logistic"]["scale"] = scale
    return report


def _later_frames(bits: Float[np.ndarray, "videos later_frames"]) -> dict[str, Any] | None:
    if not bits.shape[1]:
        return None
    return mean_and_stderr(bits.mean(axis=1)) | {"per_frame": bits.mean(axis=0).tolist()}


def evaluate(
    model: Model,
    train: data.Dataset,
    split: data.Dataset,
    *,
    metrics: Sequence[str],
    num_videos: int,
    seed: int,
) -> dict[str, Any]:
    """The report that `flowvid.evaluate` prints and writes.

    Args:
        model: the run's.
        train: clips that the baselines are fitted on.
        split: clips to score, the first `num_videos` of them.
        metrics: names of `flowvid.likelihood.METRICS`.
        num_videos: how many.
        seed: of the dequantisation noise.

    Returns:
        {"variant", "step", "averaged", "num_videos", "metrics": {name: {"head":
        {"bits_per_dim", "stderr"}, "tail": {..., "per_frame"}, "baselines": {...}}}, ...}, standard
        errors over videos; the "tail" of single images is None.
    """
    params = steps.replicate(model.params)
    results = {}
    for name in metrics:
        metric = METRICS[name]
        compiled = evaluator(model.config, metric, seed)
        scores = score(compiled, params, split, model.config.batch_size, num_videos, name)
        assert scores is not None  # nobody stops it
        results[name] = {
            "head": mean_and_stderr(scores.head),
            "tail": _later_frames(scores.tail),
            "baselines": baselines(train, split, metric, num_videos),
        }
    return {
        "variant": model.config.variant,
        "step": model.step,
        "averaged": model.averaged,
        "dataset": split.name,
        "split": split.split,
        "num_videos": num_videos,
        "seed": seed,
        "metrics": results,
    }


def format_report(report: dict[str, Any]) -> str:
    """The report as a table for the terminal: one row an answer, one column a metric."""

    def cell(entry: dict[str, Any] | None) -> str:
        if entry is None:
            return "-"
        stderr = entry["stderr"]
        return f"{entry['bits_per_dim']:.4f}" + ("" if stderr is None else f" ± {stderr:.4f}")

    metrics = report["metrics"]
    rows: dict[str, list[str]] = {
        "first frame (head)": [cell(m["head"]) for m in metrics.values()],
        "next frames (tail)": [cell(m["tail"]) for m in metrics.values()],
    }
    titles = {
        "copy_last_frame_logistic": "  copy last frame, logistic",
        "difference_histogram": "  copy last frame, histogram",
    }
    for name, title in titles.items():
        rows[title] = [cell(m["baselines"].get(name)) for m in metrics.values()]
    counted = "images" if all(m["tail"] is None for m in metrics.values()) else "videos"
    average = " (moving average)" if report["averaged"] else ""
    lines = [
        f"{report['variant']}, step {report['step']}{average}: bits per dimension, mean ± standard "
        f"error over {report['num_videos']} {counted} of {report['dataset']} {report['split']}",
        f"{'':30}" + "".join(f"{name + ' metric':>20}" for name in metrics),
    ]
    lines += [f"{title:30}" + "".join(f"{c:>20}" for c in cells) for title, cells in rows.items()]
    return "\n".join(lines)


def write_report(report: dict[str, Any], path: pathlib.Path) -> None:
    """Writes the report as JSON, in one move."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    temporary.replace(path)
