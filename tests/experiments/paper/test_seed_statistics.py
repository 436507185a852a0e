"""Errors over seeds and videos by hand, and how often the interval holds the true mean."""

import numpy as np
import pytest

from experiments.paper.seed_statistics import (
    ONE_SEED,
    number,
    number_and_interval,
    summarize,
    verdict,
)


def test_means_errors_and_spread_by_hand():
    values = np.array([[1.0, 2.0, 6.0], [3.0, 2.0, 4.0]])
    entry = summarize(values)
    # Over seeds the videos have 2, 2 and 5: variance 3, over 3 videos; the seeds have 3 and 3. With
    # no spread the 3 videos alone decide: 4.303 standard errors.
    reach = 4.302653
    assert entry.pop("interval") == pytest.approx([3 - reach, 3 + reach], rel=1e-6)
    assert entry == {"mean": 3.0, "stderr": 1.0, "per_seed": [3.0, 3.0], "spread": 0.0}
    one = summarize(values[:1, :1])
    assert one == {
        "mean": 1.0,
        "stderr": None,
        "per_seed": [1.0],
        "spread": None,
        "interval": None,
    }
    assert number(one) == number_and_interval(one) == "1.000"
    assert number(summarize(values), 1) == "3.0 ± 1.0 (0.0)"
    assert number_and_interval(summarize(values), 1).endswith("(0.0), 95% interval -1.3 to 7.3")


def test_the_spread_over_few_seeds_counts_as_students_t_has_it():
    # Every video says the same of a seed: the seeds alone decide.
    values = np.array([[1.0], [2.0], [3.0]]) + np.zeros((3, 50))
    reach = 4.302653 / np.sqrt(3)  # t with 2 degrees of freedom, spread 1
    assert summarize(values)["interval"] == pytest.approx([2 - reach, 2 + reach], rel=1e-6)
    two = values[:2]
    reach = 12.706205 * np.sqrt(0.5 / 2)  # t with 1 degree of freedom, spread sqrt(1/2)
    assert summarize(two)["interval"] == pytest.approx([1.5 - reach, 1.5 + reach], rel=1e-6)
    # Seeds and videos alike: both margins count.
    both = np.array([[0.0], [1.0]]) + np.array([[0.0, 1.0]])
    assert summarize(both)["interval"] == pytest.approx(
        [1 - 12.706205 / np.sqrt(2), 1 + 12.706205 / np.sqrt(2)], rel=1e-6
    )
    assert summarize(np.ones((2, 2)))["interval"] == [1.0, 1.0]


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_the_interval_holds_the_true_mean_as_often_as_it_says(seeds, scale):
    """The numbers are sums of a random effect of the seed, the video, and the pair."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        of_seeds, of_videos = scale * rng.normal(size=(seeds, 1)), rng.normal(size=(1, 10))
        low, high = summarize(of_seeds + of_videos + rng.normal(size=(seeds, 10)))["interval"]
        held += low < 0 < high
    # 95%, less three standard errors of 1000 trials.
    assert held >= 950 - 3 * np.sqrt(1000 * 0.95 * 0.05)


def test_a_difference_that_other_seeds_contradict_does_not_hold():
    # Beyond two standard errors over videos, but the seeds give -1, 1 and 3.
    wide = np.array([[-1.0], [1.0], [3.0]]) + 0.01 * np.arange(20)
    entry = summarize(wide)
    assert entry["mean"] > 2 * entry["stderr"]
    assert verdict(entry, 1) == verdict(entry, -1) == "not certain"
    narrow = summarize(1 + 0.01 * wide)
    assert (verdict(narrow, 1), verdict(narrow, -1)) == ("yes", "no")


def test_one_seed_never_decides():
    entry = summarize(5 + 0.01 * np.arange(20.0)[None])
    assert verdict(entry, 1) == verdict(entry, -1) == ONE_SEED
    assert "one seed shows the difference but not whether it holds" in ONE_SEED
    one_video = summarize(np.array([[5.0], [5.1]]))
    assert verdict(one_video, 1) == "not certain"
