"""Means over videos with their standard errors, and the bound of several noise draws."""

import math

import numpy as np
import pytest

from flowvid.errors import TrainingError
from flowvid.evaluation import bounds


def test_mean_and_standard_error_over_videos():
    bits = np.array([1.0, 2.0, 4.0, 9.0])
    result = bounds.mean_and_stderr(bits)
    # Deviations -3, -2, 0, 5: variance 38 / 3, over 4 videos.
    assert result == {"bits_per_dim": 4.0, "stderr": pytest.approx(math.sqrt(38 / 3 / 4))}
    assert bounds.mean_and_stderr(bits[:1]) == {"bits_per_dim": 1.0, "stderr": None}


def test_a_non_finite_likelihood_is_an_error():
    with pytest.raises(TrainingError, match="1 of 3 videos have a non-finite likelihood"):
        bounds.mean_and_stderr(np.array([1.0, np.nan, 2.0]))


def test_the_importance_weighted_bound_by_hand():
    # Two draws of a frame of 2 dimensions with p = 1/4 and 1/16: their mean is 5/32.
    bits = np.array([[1.0], [2.0]])
    bound = bounds.importance_weighted(bits, 2)
    np.testing.assert_allclose(bound, [-math.log2(5 / 32) / 2])
    np.testing.assert_allclose(bounds.importance_weighted(bits[:1], 2), [1.0])


def test_the_bound_of_many_draws_is_the_probability_of_the_bin():
    """With a density known in closed form: x of one dimension, p(x) = 2x on [0, 1), 2-bit bins."""
    x = 0.25 + np.random.default_rng(0).uniform(0, 0.25, (100_000, 1))
    bits = -np.log2(2 * x) + 2
    exact = -math.log2(0.5**2 - 0.25**2)
    assert bounds.importance_weighted(bits, 1)[0] == pytest.approx(exact, abs=2e-3)
    assert bits.mean() > exact + 0.02
