"""Baselines of bits per dimension, evaluated on the same frames as the models.

They copy the last frame, model pixels as independent of each other, or are lossless codecs.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from scipy import optimize
from scipy.special import log_expit
from tqdm import tqdm

from flowvid.config.metrics import Metric
from flowvid.data import datasets
from flowvid.evaluation import codecs
from flowvid.evaluation.codecs import CODECS, Codec
from flowvid.parallel import processes

Videos = UInt8[np.ndarray, "batch frames height width channels"]
FITTED_ON = 256  # training clips, for the baselines with parameters
CHOSEN_ON = 32  # training clips, for the settings of the codecs
_AT_ONCE = 16  # clips in memory
SETTINGS = {  # on which kept results depend
    "fitted_on": FITTED_ON,
    "chosen_on": CHOSEN_ON,
    "codecs": {name: [codec.options for codec in tried] for name, tried in CODECS.items()},
}


class BaselineBits(NamedTuple):
    """Bits per dimension of each video by the baseline's name: of first and of later frames."""

    head: dict[str, Float[np.ndarray, " videos"]]
    tail: dict[str, Float[np.ndarray, " videos"]]


def quantized(videos: Videos, metric: Metric) -> Videos:
    """Returns the n-bit values, which start at 0."""
    return videos >> (8 - metric.n_bits)


def value_counts(videos: Videos, metric: Metric) -> Float[np.ndarray, "channels levels"]:
    """Returns how often each n-bit value occurs in each channel."""
    size, q = 2**metric.n_bits, quantized(videos, metric)
    of_channel = [np.bincount(q[..., c].reshape(-1), minlength=size) for c in range(q.shape[-1])]
    return np.stack(of_channel).astype(float)


def transition_counts(videos: Videos, metric: Metric) -> Float[np.ndarray, "levels levels"]:
    """Returns counts [k', k] of pixels with the n-bit value k', and k in the next frame."""
    size, q = 2**metric.n_bits, quantized(videos, metric).astype(np.int64)
    pairs = q[:, :-1] * size + q[:, 1:]
    return np.bincount(pairs.reshape(-1), minlength=size * size).reshape(size, size).astype(float)


def logistic_bits(scale: float, size: int) -> Float[np.ndarray, "levels levels"]:
    """Returns -log2 P(k | k') [k', k] of a logistic around k', discretised to `size` values.

    The two edge values take the mass of the tails.
    """
    k = np.arange(size)
    low, high = ((k[None] + side - k[:, None]) / scale for side in (-0.5, 0.5))
    low[:, 0], high[:, -1] = -np.inf, np.inf
    # log(s(high) - s(low)) = log s(high) + log s(-low) + log(1 - exp(low - high)), exact in tails.
    log_p = log_expit(high) + log_expit(-low) + np.log1p(-np.exp(low - high))
    return -log_p / math.log(2)


def fit_logistic(counts: Float[np.ndarray, "levels levels"]) -> float:
    """Returns the scale, in n-bit levels, under which transitions [k', k] cost the fewest bits."""
    size = len(counts)

    def cost(log_scale: float) -> float:
        return float(np.sum(counts * logistic_bits(math.exp(log_scale), size)))

    best = optimize.minimize_scalar(cost, bounds=(math.log(1e-3), math.log(size)), method="bounded")
    return math.exp(best.x)


def difference_bits(
    counts: Float[np.ndarray, "levels levels"],
) -> Float[np.ndarray, "levels levels"]:
    """Returns -log2 P(k | k') [k', k] by the histogram of differences k - k'.

    It has add-one smoothing, and is normalised over the values that k can take, so that no mass is
    lost at the edges.
    """
    size = len(counts)
    difference = np.arange(size)[None] - np.arange(size)[:, None] + size - 1
    histogram = np.bincount(difference.reshape(-1), counts.reshape(-1), 2 * size - 1) + 1
    weights = histogram[difference]
    return -np.log2(weights / weights.sum(axis=1, keepdims=True))


def table_bits(
    table: Float[np.ndarray, "levels levels"], videos: Videos, metric: Metric
) -> Float[np.ndarray, " batch"]:
    """Returns mean bits per dimension of each video's later frames, by a table [k', k] of bits."""
    q = quantized(videos, metric)
    return table[q[:, :-1], q[:, 1:]].mean(axis=(1, 2, 3, 4))


def independent_bits(
    counts: Float[np.ndarray, "channels levels"], videos: Videos, metric: Metric
) -> Float[np.ndarray, " batch"]:
    """Returns mean bits per dimension of each video by the histogram of each channel's values.

    The histograms have add-one smoothing.
    """
    bits = -np.log2((counts + 1) / (counts + 1).sum(axis=1, keepdims=True))
    return bits[np.arange(len(bits)), quantized(videos, metric)].mean(axis=(1, 2, 3, 4))


class _Choice(NamedTuple):
    """A codec's best settings on training clips: for first and for later frames."""

    head: Codec
    tail: Codec


class _Fitted(NamedTuple):
    """The parameters of the baselines, from training clips."""

    first: Float[np.ndarray, "channels levels"]  # counts of values in first frames
    later: Float[np.ndarray, "channels levels"]  # and in later ones
    logistic: Float[np.ndarray, "levels levels"]
    histogram: Float[np.ndarray, "levels levels"]
    codecs: dict[str, _Choice]


def _clips(dataset: datasets.Dataset, indices: Sequence[int], title: str) -> Iterator[Videos]:
    silent = not processes.is_first()
    with tqdm(total=len(indices), desc=title, unit="video", leave=False, disable=silent) as bar:
        for start in range(0, len(indices), _AT_ONCE):
            some = indices[start : start + _AT_ONCE]
            yield np.stack([dataset[index]["video"] for index in some])
            bar.update(len(some))


def evenly_spaced(length: int, count: int) -> list[int]:
    """Returns at most `count` indices below `length`, spread evenly.

    A training split may be sorted by label, so its first clips need not be typical.
    """
    return [i * length // min(count, length) for i in range(min(count, length))]


def choose_settings(settings: Sequence[Codec], clips: Iterable[Videos], metric: Metric) -> _Choice:
    """Returns the settings with the fewest mean bits on clips: for first and for later frames.

    These may differ: a decoder of later frames has the first frame, whatever code it came in.
    """
    bits = [
        [codecs.bits_per_dim(video, codec) for codec in settings]
        for videos in clips
        for video in quantized(videos, metric)
    ]
    head, tail = np.argmin(np.mean(bits, axis=0), axis=0)
    return _Choice(settings[head], settings[tail])


def _fit(train: datasets.Dataset, metric: Metric) -> _Fitted:
    clips = _clips(train, evenly_spaced(len(train), FITTED_ON), f"{metric.name}, fitting baselines")
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
    chosen = {}
    for name, settings in CODECS.items():
        usable = [c for c in settings if c.largest is None or max(train.image_size) <= c.largest]
        indices = evenly_spaced(len(train), CHOSEN_ON) if len(usable) > 1 else []
        clips = _clips(train, indices, f"{metric.name}, choosing settings of {name}")
        chosen[name] = (
            choose_settings(usable, clips, metric) if indices else _Choice(usable[0], usable[0])
        )
    return _Fitted(first, later, logistic, difference_bits(transitions), chosen)


def _evaluate(fitted: _Fitted, videos: Videos, metric: Metric) -> BaselineBits:
    head = {"independent_pixels": independent_bits(fitted.first, videos[:, :1], metric)}
    tail = {}
    if videos.shape[1] > 1:
        tail = {
            "copy_last_frame_logistic": table_bits(fitted.logistic, videos, metric),
            "difference_histogram": table_bits(fitted.histogram, videos, metric),
            "independent_pixels": independent_bits(fitted.later, videos[:, 1:], metric),
        }
    values = quantized(videos, metric)
    for name, choice in fitted.codecs.items():
        head[name] = np.array([codecs.bits_per_dim(v[:1], choice.head)[0] for v in values])
        if tail:
            tail[name] = np.array([codecs.bits_per_dim(v, choice.tail)[1] for v in values])
    return BaselineBits(head, tail)


def evaluate(
    train: datasets.Dataset, split: datasets.Dataset, metric: Metric, num_videos: int
) -> BaselineBits:
    """Returns the bits of every baseline on the first `num_videos` videos of a split.

    - "copy_last_frame_logistic": a discretised logistic around the last frame's pixel;
    - "difference_histogram": the histogram of differences to the last frame's pixel;
    - "independent_pixels": the histogram of each channel's values, first and later frames apart;
    - the names in `codecs.CODECS`: lossless compression of the n-bit values.

    The first three are fitted on training clips, at most 256 of them. The settings of a codec are
    chosen on at most 32 training clips, for first and later frames apart. There are no baselines
    for the later frames of single images, and none at all under the paper's metric: pixels that are
    not floored have densities, which these baselines do not model.
    """
    if not metric.floor:
        return BaselineBits({}, {})
    fitted = _fit(train, metric)
    title = f"{metric.name}, baselines"
    parts = [
        _evaluate(fitted, videos, metric) for videos in _clips(split, range(num_videos), title)
    ]
    head, tail = (
        {name: np.concatenate([part[i][name] for part in parts]) for name in parts[0][i]}
        for i in range(2)
    )
    return BaselineBits(head, tail)
