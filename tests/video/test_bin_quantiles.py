"""Bins as quantiles of a normal distribution: every bin comes back, whatever the masses are."""

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy.stats import norm

from flowvid.flows.bijectors.logistic_mixture import Channel
from flowvid.video import bin_quantiles

NUM_BINS = 256
RARE = np.exp(-12.0)  # the weight of the component that covers all bins


def of_mixture(weights, means, log_scales):
    """The masses of a mixture of logistics in float32, with a rare component over all bins."""
    parts = (np.log([*weights, RARE]), [*means, NUM_BINS / 2], [*log_scales, np.log(NUM_BINS / 4)])
    channel = Channel(*(jnp.asarray(part, jnp.float32)[None] for part in parts), NUM_BINS)
    return np.asarray(channel.masses_of_bins())[0]


def one_hot(at):
    return np.eye(NUM_BINS, dtype=np.float32)[at]


ADVERSARIAL = {
    "alike": np.full(NUM_BINS, 1 / NUM_BINS, np.float32),
    "all in the first": one_hot(0),
    "all in the last": one_hot(-1),
    "all in a middle one": one_hot(100),
    "half in each end": (one_hot(0) + one_hot(-1)) / 2,
    "sums to more than one": 1.001 * (one_hot(7) + one_hot(200)) / 2,
    "none at all": np.zeros(NUM_BINS, np.float32),
}


def returned(masses):
    """What all bins of one distribution come back as, and their normal numbers."""
    bins = np.arange(masses.shape[-1])
    of_all = np.tile(masses, (len(bins), 1))
    z = bin_quantiles.of_bins(of_all, bins)
    assert z.dtype == np.float64
    assert np.isfinite(z).all()
    return bin_quantiles.bins_of(of_all, z), z


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_every_bin_comes_back(name):
    found, z = returned(ADVERSARIAL[name])
    np.testing.assert_array_equal(found, np.arange(NUM_BINS))
    assert np.all(np.diff(z) > 0)


@pytest.mark.parametrize("log_scale", [-4.0, 0.0, 3.0])
@pytest.mark.parametrize("means", [(0.5, 255.5), (20.5, 230.5), (100.5, 140.5), (-300, 600)])
@pytest.mark.parametrize("share", [0.5, 1e-3, 1e-9])
def test_rare_bins_between_narrow_components_come_back(share, means, log_scale):
    masses = of_mixture([share, 1 - share], means, [log_scale, log_scale])
    found, _ = returned(masses)
    np.testing.assert_array_equal(found, np.arange(NUM_BINS))


@hypothesis.given(
    st.lists(st.one_of(st.just(-200.0), st.floats(-60, 0)), min_size=2, max_size=64),
    st.floats(0.5, 2.0),
)
def test_every_bin_of_any_masses_comes_back(exponents, total):
    masses = 2.0 ** np.array(exponents)
    masses = np.float32(total * masses / masses.sum())
    found, z = returned(masses)
    np.testing.assert_array_equal(found, np.arange(len(masses)))
    assert np.all(np.diff(z) > 0)


def test_they_are_the_quantiles_of_the_middles():
    edges = np.linspace(-4, 4, 17)
    masses = np.diff(norm.cdf(edges))
    _, z = returned(np.float32(masses))
    middles = (norm.cdf(edges[:-1]) + norm.cdf(edges[1:])) / 2 - norm.cdf(-4)
    np.testing.assert_allclose(z, norm.ppf(middles / masses.sum()), atol=1e-4)


def test_any_number_stands_for_the_bin_around_its_quantile():
    rng = np.random.default_rng(0)
    count = 2 * bin_quantiles._ROWS + 5  # in three parts
    masses = rng.dirichlet(np.full(8, 0.3), count).astype(np.float32)
    z = rng.standard_normal(count)
    z[:4] = -np.inf, np.inf, -40, 40
    found = bin_quantiles.bins_of(masses, z)
    ends = np.cumsum(np.float64(masses), axis=1)
    ends /= ends[:, -1:]
    at, rows = norm.cdf(z), np.arange(count)
    before = np.where(found > 0, ends[rows, found - 1], 0)
    assert np.all(before <= at + 1e-9)
    assert np.all(at <= ends[rows, found] + 1e-9)
