"""The trivial answers are what they say: by hand, by slow computations, and against decoders."""

import io
import math

import av
import numpy as np
import pytest
from PIL import Image

from flowvid.config.metrics import METRICS
from flowvid.data.datasets import Dataset
from flowvid.evaluation import baselines, codecs
from flowvid.training import loop

pytest_plugins = ["system_fixtures"]

FIVE = METRICS["5-bit"]


@pytest.fixture(scope="module")
def splits(tiny):
    return loop.prepare(tiny())[1:]


@pytest.fixture(scope="module")
def answered(splits):
    """The answers on all five clips of the validation split."""
    return baselines.answers(*splits, FIVE, 5)


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


def test_copies_equal_a_slow_computation_and_are_fitted_on_training_clips(answered, splits):
    train, validation = splits
    clips_of_train = np.stack([train[index]["video"] for index in range(len(train))])
    scale = baselines.fit_logistic(baselines.transition_counts(clips_of_train, FIVE))
    slow = slow_logistic_bits(validation, scale)
    np.testing.assert_allclose(answered.tail["copy_last_frame_logistic"], slow, rtol=1e-5)
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
    np.testing.assert_allclose(answered.tail["difference_histogram"], slow, rtol=1e-6)


@pytest.mark.parametrize(("part", "frames"), [("head", slice(0, 1)), ("tail", slice(1, None))])
def test_independent_pixels_equal_a_slow_computation(answered, splits, part, frames):
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
    answer = getattr(answered, part)["independent_pixels"]
    np.testing.assert_allclose(answer, slow, rtol=1e-6)


def test_answers_are_of_the_videos_asked_for(answered, splits):
    few = baselines.answers(*splits, FIVE, 2)
    for part, all_of_part in zip(few, answered, strict=True):
        assert part.keys() == all_of_part.keys()
        for name, bits in part.items():
            np.testing.assert_array_equal(bits, all_of_part[name][:2])


def test_unfloored_pixels_have_no_answers(splits):
    assert baselines.answers(*splits, METRICS["paper"], 5) == ({}, {})


# Codecs.


def decoded(packets, codec):
    """What a decoder makes of the packets."""
    if codec.encoder == "png":
        return np.stack([np.asarray(Image.open(io.BytesIO(packet))) for packet in packets])
    decoder = av.CodecContext.create("h264" if "264" in codec.encoder else codec.encoder, "r")
    encoder = av.CodecContext.create(codec.encoder, "w")
    encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = 16, 24, codec.pixels, 1
    encoder.options = codec.options | {"threads": "1"}
    encoder.flags |= av.codec.context.Flags.global_header
    encoder.open()
    decoder.height, decoder.width, decoder.extradata = 16, 24, encoder.extradata
    frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet))]
    frames += decoder.decode(None)
    return np.stack([frame.reformat(format="rgb24").to_ndarray() for frame in frames])


@pytest.fixture(scope="module")
def footage():
    """Seven frames of moving blocks with a little noise, 16 x 24."""
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(0, 200, (2, 3, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    moving = np.stack([np.roll(blocks, i, axis=1) for i in range(7)])
    return moving + rng.integers(0, 3, moving.shape, dtype=np.uint8)


@pytest.mark.parametrize("name", codecs.CODECS)
def test_codecs_lose_nothing_and_their_packets_are_all_that_is_needed(name, footage):
    codec = codecs.CODECS[name]
    packets = codecs.encode(footage, codec)
    assert len(packets) == len(footage)
    np.testing.assert_array_equal(decoded(packets, codec), footage)
    assert not any(b"x264" in packet for packet in packets)
    first, later = codecs.bits_per_dim(footage, codec)
    assert first == pytest.approx(8 * len(packets[0]) / footage[0].size)
    assert later == pytest.approx(8 * sum(map(len, packets[1:])) / footage[1:].size)


@pytest.mark.parametrize("name", codecs.CODECS)
def test_a_first_frame_costs_the_same_whatever_follows(name, footage):
    codec = codecs.CODECS[name]
    alone, none = codecs.bits_per_dim(footage[:1], codec)
    assert math.isnan(none)
    assert alone == codecs.bits_per_dim(footage, codec)[0]


def test_codecs_that_know_the_last_frame_need_less_for_the_next():
    still = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8), 5, 0)
    first, later = codecs.bits_per_dim(still, codecs.CODECS["h264_lossless"])
    assert later < 0.2 * first


def test_answers_encode_the_values_that_are_asked_for(answered, splits):
    head, tail = answered
    for name, codec in codecs.CODECS.items():
        bits = [codecs.bits_per_dim(video, codec) for video in clips(splits[1])]
        np.testing.assert_array_equal(head[name], [b[0] for b in bits])
        np.testing.assert_array_equal(tail[name], [b[1] for b in bits])
