"""Baselines agree with slow computations and those by hand, and are fitted on training clips."""

import math

import numpy as np
import pytest

from flowvid.config.metrics import METRICS
from flowvid.data.datasets import Dataset
from flowvid.evaluation import baselines, codecs
from flowvid.sizes import Size

pytest_plugins = ["system_fixtures"]

FIVE = METRICS["5-bit"]


@pytest.fixture(scope="module")
def found(splits):
    """The baselines on all five clips of the validation split."""
    return baselines.evaluate(*splits, FIVE, 5)


def clips(dataset, frames=slice(None)):
    """The 5-bit values of all clips of a split."""
    return [dataset[index]["video"][frames] // 8 for index in range(len(dataset))]


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_a_discretised_logistic_is_a_distribution(scale):
    probabilities = 2 ** -baselines.logistic_bits(scale, 32)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_a_discretised_logistic_by_hand():
    sigmoid = lambda z: 1 / (1 + math.exp(-z))  # noqa: E731
    bits = baselines.logistic_bits(2.0, 4)
    assert bits[1, 0] == pytest.approx(-math.log2(sigmoid(-0.25)))  # all below 0.5
    assert bits[1, 2] == pytest.approx(-math.log2(sigmoid(0.75) - sigmoid(0.25)))
    assert bits[1, 3] == pytest.approx(-math.log2(1 - sigmoid(0.75)))  # all above 2.5


def test_the_fit_recovers_the_scale_of_logistic_differences():
    rng = np.random.default_rng(0)
    before = rng.integers(0, 256, 200_000)
    after = np.clip(np.rint(before + rng.logistic(scale=3.0, size=before.shape)), 0, 255)
    counts = np.zeros((256, 256))
    np.add.at(counts, (before, after.astype(int)), 1)
    assert baselines.fit_logistic(counts) == pytest.approx(3.0, rel=0.02)


def test_a_histogram_of_differences_is_a_distribution_for_every_last_value():
    counts = np.random.default_rng(0).integers(0, 50, (32, 32)).astype(float)
    np.testing.assert_allclose((2 ** -baselines.difference_bits(counts)).sum(axis=1), 1)


def test_a_histogram_of_differences_by_hand():
    # Differences -1, 0, 1 were seen 1, 4 and 2 times; one is added to each.
    bits = baselines.difference_bits(np.array([[3.0, 2.0], [1.0, 1.0]]))
    np.testing.assert_allclose(2**-bits, [[5 / 8, 3 / 8], [2 / 7, 5 / 7]])


def test_transitions_are_counted_and_priced_by_hand():
    # Two pixels of one channel, three frames; in 5 bits 0 -> 1 -> 1 and 31 -> 31 -> 0.
    video = np.array([[7, 255], [8, 248], [15, 0]], np.uint8).reshape(1, 3, 1, 2, 1)
    counts = baselines.transition_counts(np.concatenate([video, video]), FIVE)
    seen = {tuple(where): counts[tuple(where)] for where in np.argwhere(counts)}
    assert seen == {(0, 1): 2, (1, 1): 2, (31, 31): 2, (31, 0): 2}
    table = np.zeros((32, 32))
    table[0, 1], table[1, 1], table[31, 31], table[31, 0] = 1, 2, 4, 8
    assert baselines.table_bits(table, video, FIVE) == pytest.approx((1 + 2 + 4 + 8) / 4)


def slow_logistic_bits(dataset: Dataset, scale: float) -> list[float]:
    """Each clip's bits under copy-the-last-frame, pixel by pixel."""

    def mass(low: float, high: float) -> float:
        """Between two edges; in the lower tail, where the difference keeps its digits."""
        if low > 0:
            low, high = -high, -low
        return math.exp(high / scale) / (1 + math.exp(high / scale)) - (
            math.exp(low / scale) / (1 + math.exp(low / scale))
        )

    totals = []
    for index in range(len(dataset)):
        video = dataset[index]["video"] // 8
        total = 0.0
        for before, after in zip(video[:-1].ravel(), video[1:].ravel(), strict=True):
            difference = float(after) - float(before)
            low = -64 * scale if after == 0 else difference - 0.5
            high = 64 * scale if after == 31 else difference + 0.5
            total -= math.log2(mass(low, high))
        totals.append(total / video[1:].size)
    return totals


def test_copies_equal_a_slow_computation_and_are_fitted_on_training_clips(found, splits):
    train, validation = splits
    clips_of_train = np.stack([train[index]["video"] for index in range(len(train))])
    scale = baselines.fit_logistic(baselines.transition_counts(clips_of_train, FIVE))
    slow = slow_logistic_bits(validation, scale)
    np.testing.assert_allclose(found.tail["copy_last_frame_logistic"], slow, rtol=1e-5)
    on_train = [np.mean(slow_logistic_bits(train, scale * f)) for f in (0.95, 1, 1.05)]
    assert on_train[1] < min(on_train[0], on_train[2])

    histogram = np.ones(63)
    for video in clips(train):
        np.add.at(histogram, np.diff(video.astype(int), axis=0).ravel() + 31, 1)
    slow = []
    for video in clips(validation):
        before, after = video[:-1].ravel().astype(int), video[1:].ravel().astype(int)
        possible = np.array([histogram[31 - k : 63 - k].sum() for k in range(32)])
        slow.append(-np.log2(histogram[after - before + 31] / possible[before]).mean())
    np.testing.assert_allclose(found.tail["difference_histogram"], slow, rtol=1e-6)


@pytest.mark.parametrize(("part", "frames"), [("head", slice(0, 1)), ("tail", slice(1, None))])
def test_independent_pixels_equal_a_slow_computation(found, splits, part, frames):
    train, validation = splits
    bits = np.zeros((3, 32))
    for channel in range(3):
        values = np.concatenate([v[..., channel].ravel() for v in clips(train, frames)])
        counts = np.bincount(values, minlength=32) + 1
        bits[channel] = -np.log2(counts / counts.sum())
    slow = [
        np.mean([bits[channel][video[..., channel]] for channel in range(3)])
        for video in clips(validation, frames)
    ]
    np.testing.assert_allclose(getattr(found, part)["independent_pixels"], slow, rtol=1e-6)


def test_baselines_are_of_the_videos_asked_for(found, splits):
    few = baselines.evaluate(*splits, FIVE, 2)
    for part, all_of_part in zip(few, found, strict=True):
        assert part.keys() == all_of_part.keys()
        for name, bits in part.items():
            np.testing.assert_array_equal(bits, all_of_part[name][:2])


def test_unfloored_pixels_have_no_baselines(splits):
    assert baselines.evaluate(*splits, METRICS["paper"], 5) == ({}, {})


def test_training_clips_are_spread_evenly():
    assert baselines.evenly_spaced(1000, 4) == [0, 250, 500, 750]
    assert baselines.evenly_spaced(7, 3) == [0, 2, 4]
    assert baselines.evenly_spaced(3, 256) == [0, 1, 2]


def dataset_of(videos):
    """A dataset of these videos [N, T, H, W, 3], in this order."""
    records = [{"video": v, "label": i % 2, "id": b"%d" % i} for i, v in enumerate(videos)]
    size = Size(*videos.shape[2:4])
    return Dataset("made", "train", records, ("a", "b"), videos.shape[1], size, "fingerprint")


def test_a_training_split_that_is_sorted_is_fitted_as_a_whole(monkeypatch):
    """Half of the clips are dark and half are bright: a pixel costs about one bit."""
    videos = np.zeros((8, 3, 16, 16, 3), np.uint8)
    videos[4:] = 255
    monkeypatch.setattr(baselines, "FITTED_ON", 4)
    train = dataset_of(videos)
    bits = baselines.evaluate(train, train, FIVE, 8)
    for part in bits:
        np.testing.assert_allclose(part["independent_pixels"], 1.0, atol=0.1)


# Settings of codecs.


def waves(count):
    """Clips of a wave with sensor noise, on which FFV1's large context model is better in time."""
    rng = np.random.default_rng(0)
    wave = 128 + 60 * np.sin(np.arange(32) / 5)[:, None]
    return (wave + rng.normal(size=(count, 20, 32, 32, 3), scale=0.6)).astype(np.uint8)


def test_settings_are_chosen_on_training_clips_for_first_and_later_frames_apart():
    clips, settings = waves(3), codecs.CODECS["ffv1"]
    choice = baselines.choose_settings(settings, iter([clips[:2], clips[2:]]), METRICS["8-bit"])
    bits = np.mean([[codecs.bits_per_dim(v, c) for c in settings] for v in clips], axis=0)
    assert choice.head == settings[np.argmin(bits[:, 0])]
    assert choice.tail == settings[np.argmin(bits[:, 1])]
    assert (choice.head.options["context"], choice.tail.options["context"]) == ("0", "1")


@pytest.mark.parametrize("name", codecs.CODECS)
def test_codecs_have_the_settings_that_are_best_on_training_clips(name):
    train, held_out, metric = dataset_of(waves(2)), waves(4)[2:], METRICS["8-bit"]
    found = baselines.evaluate(train, dataset_of(held_out), metric, 2)
    tried = codecs.CODECS[name]
    bits = np.array([[codecs.bits_per_dim(v, c) for c in tried] for v in waves(2)])
    head, tail = bits.mean(axis=0).argmin(axis=0)
    expected = [codecs.bits_per_dim(v, tried[head])[0] for v in held_out]
    np.testing.assert_array_equal(found.head[name], expected)
    expected = [codecs.bits_per_dim(v, tried[tail])[1] for v in held_out]
    np.testing.assert_array_equal(found.tail[name], expected)


def test_codecs_encode_the_values_of_the_metric(found, splits):
    assert len(codecs.CODECS["h264_lossless"]) == 1
    (codec,) = codecs.CODECS["h264_lossless"]
    bits = [codecs.bits_per_dim(video, codec) for video in clips(splits[1])]
    np.testing.assert_array_equal(found.head["h264_lossless"], [b[0] for b in bits])
    np.testing.assert_array_equal(found.tail["h264_lossless"], [b[1] for b in bits])


def test_settings_that_a_frame_is_too_large_for_are_not_used():
    (video,) = np.random.default_rng(0).integers(0, 256, (1, 1, 320, 320, 3), np.uint8)
    train = dataset_of(video[None])
    found = baselines.evaluate(train, train, FIVE, 1)
    fitting = [codec for codec in codecs.CODECS["ffv1"] if codec.largest is None]
    best = min(codecs.bits_per_dim(video // 8, codec)[0] for codec in fitting)
    assert found.head["ffv1"] == [best]
    assert found.tail == {}
