"""The trivial answers that stand beside the models, on the same frames: per video, in n-bit bits.

Copying the last frame, pixels independent of each other, and lossless codecs.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from scipy import optimize
from scipy.special import log_expit
from tqdm import tqdm

from flowvid.config.metrics import Metric
from flowvid.data import datasets
from flowvid.evaluation import codecs
from flowvid.parallel import processes

Videos = UInt8[np.ndarray, "batch frames height width channels"]
_FIT_ON = 256  # training clips


class Answers(NamedTuple):
    """Bits per dimension by the name of the answer: of first frames, and of later frames, [N]."""

    head: dict[str, Float[np.ndarray, " videos"]]
    tail: dict[str, Float[np.ndarray, " videos"]]


def quantized(videos: Videos, metric: Metric) -> Videos:
    """The n-bit values, from 0 on."""
    return videos >> (8 - metric.n_bits)


def value_counts(videos: Videos, metric: Metric) -> Float[np.ndarray, "channels levels"]:
    """How often each n-bit value is in each channel."""
    size, q = 2**metric.n_bits, quantized(videos, metric)
    of_channel = [np.bincount(q[..., c].reshape(-1), minlength=size) for c in range(q.shape[-1])]
    return np.stack(of_channel).astype(float)


def transition_counts(videos: Videos, metric: Metric) -> Float[np.ndarray, "levels levels"]:
    """How often a pixel of n-bit value k' is followed by k in the next frame: counts [k', k]."""
    size, q = 2**metric.n_bits, quantized(videos, metric).astype(np.int64)
    pairs = q[:, :-1] * size + q[:, 1:]
    return np.bincount(pairs.reshape(-1), minlength=size * size).reshape(size, size).astype(float)


def logistic_bits(scale: float, size: int) -> Float[np.ndarray, "levels levels"]:
    """-log2 P(k | k') of a logistic around k', discretised to `size` values, tails at the edges."""
    k = np.arange(size)
    low, high = ((k[None] + side - k[:, None]) / scale for side in (-0.5, 0.5))
    low[:, 0], high[:, -1] = -np.inf, np.inf
    # log(s(high) - s(low)) = log s(high) + log s(-low) + log(1 - exp(low - high)), exact in tails.
    log_p = log_expit(high) + log_expit(-low) + np.log1p(-np.exp(low - high))
    return -log_p / math.log(2)


def fit_logistic(counts: Float[np.ndarray, "levels levels"]) -> float:
    """The scale (in n-bit levels) under which `counts` cost the fewest bits."""
    size = len(counts)

    def cost(log_scale: float) -> float:
        return float(np.sum(counts * logistic_bits(math.exp(log_scale), size)))

    best = optimize.minimize_scalar(cost, bounds=(math.log(1e-3), math.log(size)), method="bounded")
    return math.exp(best.x)


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
    q = quantized(videos, metric)
    return table[q[:, :-1], q[:, 1:]].mean(axis=(1, 2, 3, 4))


def independent_bits(
    counts: Float[np.ndarray, "channels levels"], videos: Videos, metric: Metric
) -> Float[np.ndarray, " batch"]:
    """Mean bits per dimension of each video by its channels' values alone, one added to each."""
    bits = -np.log2((counts + 1) / (counts + 1).sum(axis=1, keepdims=True))
    return bits[np.arange(len(bits)), quantized(videos, metric)].mean(axis=(1, 2, 3, 4))


def _videos(dataset: datasets.Dataset, num_videos: int, title: str) -> Iterator[Videos]:
    silent = not processes.is_first()
    with tqdm(total=num_videos, desc=title, unit="video", leave=False, disable=silent) as bar:
        for batch in datasets.eval_batches(dataset, batch_size=16, num_videos=num_videos):
            videos = batch["video"][batch["mask"] > 0]
            yield videos
            bar.update(len(videos))


class _Fitted(NamedTuple):
    """What the answers have learned from training clips."""

    first: Float[np.ndarray, "channels levels"]  # counts of values in first frames
    later: Float[np.ndarray, "channels levels"]  # and in later ones
    logistic: Float[np.ndarray, "levels levels"]
    histogram: Float[np.ndarray, "levels levels"]


def _fit(clips: Iterable[Videos], metric: Metric) -> _Fitted:
    counts = [
        (
            value_counts(videos[:, :1], metric),
            value_counts(videos[:, 1:], metric),
            transition_counts(videos, metric),
        )
        for videos in clips
    ]
    first, later, transitions = (
        np.sum(of_batches, axis=0) for of_batches in zip(*counts, strict=True)
    )
    logistic = logistic_bits(fit_logistic(transitions), len(transitions))
    return _Fitted(first, later, logistic, difference_bits(transitions))


def _answer(fitted: _Fitted, videos: Videos, metric: Metric) -> Answers:
    head = {"independent_pixels": independent_bits(fitted.first, videos[:, :1], metric)}
    tail = {}
    if videos.shape[1] > 1:
        tail = {
            "copy_last_frame_logistic": table_bits(fitted.logistic, videos, metric),
            "difference_histogram": table_bits(fitted.histogram, videos, metric),
            "independent_pixels": independent_bits(fitted.later, videos[:, 1:], metric),
        }
    for name, codec in codecs.CODECS.items():
        bits = np.array([codecs.bits_per_dim(v, codec) for v in quantized(videos, metric)])
        head[name] = bits[:, 0]
        if tail:
            tail[name] = bits[:, 1]
    return Answers(head, tail)


def answers(
    train: datasets.Dataset, split: datasets.Dataset, metric: Metric, num_videos: int
) -> Answers:
    """Every trivial answer on the first `num_videos` videos of a split.

    - "copy_last_frame_logistic": a discretised logistic around the last frame's pixel;
    - "difference_histogram": the histogram of differences to the last frame's pixel;
    - "independent_pixels": the histogram of each channel's values, first and later frames apart;
    - those of `codecs.CODECS`: lossless compression of the n-bit values.

    All but the codecs are fitted on training clips, 256 of them at most. There are none for the
    later frames of single images, and none at all under the paper's metric: pixels that are not
    floored have densities, and none of these is one.
    """
    if not metric.floor:
        return Answers({}, {})
    fitted = _fit(_videos(train, min(len(train), _FIT_ON), "fitting"), metric)
    parts = [
        _answer(fitted, videos, metric)
        for videos in _videos(split, num_videos, f"{metric.name}, copies and codecs")
    ]
    head, tail = (
        {name: np.concatenate([part[i][name] for part in parts]) for name in parts[0][i]}
        for i in range(2)
    )
    return Answers(head, tail)
