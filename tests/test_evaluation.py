"""Evaluation: each video counts once, noise is fixed, and the trivial answers are what they say."""

import json
import math
import re

import numpy as np
import pytest
from helpers import assert_same

import flowvid
from flowvid import evaluation, steps, training
from flowvid.data import Dataset
from flowvid.errors import TrainingError
from flowvid.likelihood import METRICS

pytest_plugins = ["system_fixtures"]

FIVE = METRICS["5-bit"]


@pytest.fixture(scope="module")
def splits(tiny):
    return training.prepare(tiny())[1:]


@pytest.fixture(scope="module")
def model(run_of):
    return flowvid.load(run_of("state_label"))


@pytest.fixture(scope="module")
def score(model, splits):
    """A function that scores the validation split."""
    compiled = {seed: evaluation.evaluator(model.config, FIVE, seed) for seed in (0, 1)}
    params = steps.replicate(model.params)

    def run(batch_size=4, num_videos=5, seed=0):
        return evaluation.score(
            compiled[seed], params, splits[1], batch_size, num_videos, "scoring"
        )

    return run


# Scores.


def test_each_video_counts_once_whatever_the_batches(score):
    by_four, by_two = score(batch_size=4), score(batch_size=2)
    assert by_four.head.shape == (5,)
    assert by_four.tail.shape == (5, 4)
    assert len(np.unique(by_four.head)) == 5
    for a, b in zip(by_four, by_two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert_same(score(batch_size=3), by_four)  # two devices have equal shares
    for a, b in zip(by_four, score(num_videos=3), strict=True):
        np.testing.assert_array_equal(a[:3], b)


def test_noise_is_fixed_by_the_seed(score):
    first = score(seed=0)
    assert_same(first, score(seed=0))
    other = score(seed=1)
    assert not np.any(first.head == other.head)
    assert not np.any(first.tail == other.tail)


def test_mean_and_standard_error_over_videos():
    bits = np.array([1.0, 2.0, 4.0, 9.0])
    result = evaluation.mean_and_stderr(bits)
    # Deviations -3, -2, 0, 5: variance 38 / 3, over 4 videos.
    assert result == {"bits_per_dim": 4.0, "stderr": pytest.approx(math.sqrt(38 / 3 / 4))}
    assert evaluation.mean_and_stderr(bits[:1]) == {"bits_per_dim": 1.0, "stderr": None}


# Trivial answers.


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_a_discretised_logistic_is_a_distribution(scale):
    probabilities = 2 ** -evaluation.logistic_bits(scale, 32)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_a_discretised_logistic_by_hand():
    sigmoid = lambda z: 1 / (1 + math.exp(-z))  # noqa: E731
    bits = evaluation.logistic_bits(2.0, 4)
    assert bits[1, 0] == pytest.approx(-math.log2(sigmoid(-0.25)))  # all below 0.5
    assert bits[1, 2] == pytest.approx(-math.log2(sigmoid(0.75) - sigmoid(0.25)))
    assert bits[1, 3] == pytest.approx(-math.log2(1 - sigmoid(0.75)))  # all above 2.5


def test_the_fit_recovers_the_scale_of_logistic_differences():
    rng = np.random.default_rng(0)
    before = rng.integers(0, 256, 200_000)
    after = np.clip(np.rint(before + rng.logistic(scale=3.0, size=before.shape)), 0, 255)
    counts = np.zeros((256, 256))
    np.add.at(counts, (before, after.astype(int)), 1)
    scale, bits = evaluation.fit_logistic(counts)
    assert scale == pytest.approx(3.0, rel=0.02)
    np.testing.assert_array_equal(bits, evaluation.logistic_bits(scale, 256))


def test_a_histogram_of_differences_is_a_distribution_for_every_last_value():
    counts = np.random.default_rng(0).integers(0, 50, (32, 32)).astype(float)
    np.testing.assert_allclose((2 ** -evaluation.difference_bits(counts)).sum(axis=1), 1)


def test_a_histogram_of_differences_by_hand():
    # Differences -1, 0, 1 were seen 1, 4 and 2 times; one is added to each.
    bits = evaluation.difference_bits(np.array([[3.0, 2.0], [1.0, 1.0]]))
    np.testing.assert_allclose(2**-bits, [[5 / 8, 3 / 8], [2 / 7, 5 / 7]])


def test_a_likelihood_that_is_not_finite_is_no_result():
    with pytest.raises(TrainingError, match="1 of 3 videos have no finite likelihood"):
        evaluation.mean_and_stderr(np.array([1.0, np.nan, 2.0]))


def test_transitions_are_counted_and_priced_by_hand():
    # Two pixels of one channel, three frames; in 5 bits 0 -> 1 -> 1 and 31 -> 31 -> 0.
    video = np.array([[7, 255], [8, 248], [15, 0]], np.uint8).reshape(1, 3, 1, 2, 1)
    counts = evaluation.transition_counts([video, video], FIVE)
    seen = {tuple(where): counts[tuple(where)] for where in np.argwhere(counts)}
    assert seen == {(0, 1): 2, (1, 1): 2, (31, 31): 2, (31, 0): 2}
    table = np.zeros((32, 32))
    table[0, 1], table[1, 1], table[31, 31], table[31, 0] = 1, 2, 4, 8
    assert evaluation.table_bits(table, video, FIVE) == pytest.approx((1 + 2 + 4 + 8) / 4)


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


def test_baselines_equal_a_slow_computation_and_are_fitted_on_training_clips(splits):
    train, validation = splits
    report = evaluation.baselines(train, validation, FIVE, 5)
    logistic = report["copy_last_frame_logistic"]
    scale = logistic["scale"]
    slow = slow_logistic_bits(validation, scale)
    assert logistic["bits_per_dim"] == pytest.approx(np.mean(slow), rel=1e-5)
    assert logistic["stderr"] == pytest.approx(np.std(slow, ddof=1) / math.sqrt(5), rel=1e-5)
    on_train = [np.mean(slow_logistic_bits(train, scale * f)) for f in (0.95, 1, 1.05)]
    assert on_train[1] < min(on_train[0], on_train[2])

    histogram = np.ones(63)
    for index in range(len(train)):
        video = train[index]["video"].astype(int) // 8
        np.add.at(histogram, np.diff(video, axis=0).ravel() + 31, 1)
    slow = []
    for index in range(5):
        video = validation[index]["video"].astype(int) // 8
        before, after = video[:-1].ravel(), video[1:].ravel()
        possible = np.array([histogram[31 - k : 63 - k].sum() for k in range(32)])
        slow.append(-np.log2(histogram[after - before + 31] / possible[before]).mean())
    assert report["difference_histogram"]["bits_per_dim"] == pytest.approx(np.mean(slow), rel=1e-6)


def test_baselines_are_of_the_videos_asked_for(splits):
    train, validation = splits
    few = evaluation.baselines(train, validation, FIVE, 2)["copy_last_frame_logistic"]
    slow = slow_logistic_bits(validation, few["scale"])[:2]
    assert few["bits_per_dim"] == pytest.approx(np.mean(slow), rel=1e-5)


def test_unfloored_pixels_have_no_baselines(splits):
    assert evaluation.baselines(*splits, METRICS["paper"], 5) == {}


# The report.


@pytest.fixture(scope="module")
def report(model, splits):
    return evaluation.evaluate(model, *splits, metrics=["5-bit", "paper"], num_videos=5, seed=0)


def test_the_report_has_what_other_tools_read(report, score):
    assert (report["variant"], report["step"], report["num_videos"]) == ("state_label", 4, 5)
    assert list(report["metrics"]) == ["5-bit", "paper"]
    for result in report["metrics"].values():
        assert set(result) == {"head", "tail", "baselines"}
        assert set(result["head"]) == {"bits_per_dim", "stderr"}
        assert set(result["tail"]) == {"bits_per_dim", "stderr", "per_frame"}
        assert len(result["tail"]["per_frame"]) == 4
        assert result["tail"]["bits_per_dim"] == pytest.approx(
            np.mean(result["tail"]["per_frame"]), rel=1e-5
        )
    five = report["metrics"]["5-bit"]
    scores = score()
    assert five["head"] == evaluation.mean_and_stderr(scores.head)
    np.testing.assert_array_equal(five["tail"]["per_frame"], scores.tail.mean(axis=0))
    by_video = scores.tail.mean(axis=1)
    assert five["tail"]["stderr"] == pytest.approx(np.std(by_video, ddof=1) / math.sqrt(5))
    assert set(five["baselines"]) == {"copy_last_frame_logistic", "difference_histogram"}
    assert report["metrics"]["paper"]["baselines"] == {}


def test_the_table_names_the_metric_of_each_number(report):
    title, header, *rows = evaluation.format_report(report).splitlines()
    assert "state_label, step 4: " in title
    assert "5 videos of moving_shapes validation" in title
    assert re.split(r"\s{2,}", header.strip()) == ["5-bit metric", "paper metric"]
    split = [re.split(r"\s{2,}", row.strip()) for row in rows]
    cells = {name: values for name, *values in split}
    for name, model in (("first frame (head)", "head"), ("next frames (tail)", "tail")):
        answers = [report["metrics"][metric][model] for metric in ("5-bit", "paper")]
        assert cells[name] == [f"{a['bits_per_dim']:.4f} ± {a['stderr']:.4f}" for a in answers]
    assert cells["copy last frame, logistic"][1] == cells["copy last frame, histogram"][1] == "-"


def test_a_single_video_has_no_error_to_show(report):
    one = {"bits_per_dim": 1.25, "stderr": None}
    metrics = {"5-bit": {"head": one, "tail": one, "baselines": {}}}
    _, *table = evaluation.format_report({**report, "metrics": metrics}).splitlines()
    assert [row.split()[-1] for row in table] == ["metric", "1.2500", "1.2500", "-", "-"]


def test_the_report_is_written_as_json(report, tmp_path):
    evaluation.write_report(report, tmp_path / "evaluation.json")
    assert json.loads((tmp_path / "evaluation.json").read_text()) == report
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]
