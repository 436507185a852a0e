"""Mixture CDFs: masses that sum to one, the log-det by autodiff, and round trips of every bin."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowvid.flows.bijectors import logistic_mixture, mixture_cdf
from flowvid.flows.bijectors.logistic_mixture import Mixture

COMPONENTS, CHANNELS = 3, 3

forward = jax.jit(mixture_cdf.forward, static_argnums=2)
inverse = jax.jit(mixture_cdf.inverse, static_argnums=2)
log_mass = jax.jit(logistic_mixture.log_mass, static_argnums=2)


def drawn(pixels, num_bins, log_scale=(-1.5, 2.0), seed=0):
    """Random mixtures, whose means also lie outside of the bins."""
    rng = np.random.default_rng(seed)
    of_channels = (pixels, COMPONENTS, CHANNELS)
    parts = (
        rng.normal(size=(pixels, COMPONENTS)),
        rng.uniform(-0.2 * num_bins, 1.2 * num_bins, of_channels),
        rng.uniform(*log_scale, of_channels),
        rng.normal(size=(pixels, CHANNELS)),
    )
    return Mixture(*(jnp.asarray(part) for part in parts))


def tiled(mixture, count):
    """The same mixtures for `count` values each: pixels [count, P]."""
    return jax.tree.map(lambda part: jnp.broadcast_to(part, (count, *part.shape)), mixture)


def middles(bins, num_bins):
    return (jnp.asarray(bins) + 0.5) / num_bins - 0.5


@pytest.mark.parametrize("num_bins", [4, 8])
def test_masses_of_all_colours_sum_to_one(float64, num_bins):
    mixture = drawn(5, num_bins)
    colours = np.array(list(itertools.product(range(num_bins), repeat=CHANNELS)))
    x = jnp.broadcast_to(middles(colours, num_bins)[:, None], (len(colours), 5, CHANNELS))
    masses = jnp.exp(log_mass(tiled(mixture, len(colours)), x, num_bins))
    np.testing.assert_allclose(masses.sum(0), 1, atol=1e-13)


def test_a_single_component_is_a_discretised_logistic(float64):
    one = Mixture(
        jnp.zeros((1, 1)), jnp.full((1, 1, 1), 1.3), jnp.zeros((1, 1, 1)), jnp.zeros((1, 0))
    )
    cdf = lambda edge: 1 / (1 + np.exp(-(edge - 1.3)))  # noqa: E731
    expected = [cdf(1), cdf(2) - cdf(1), cdf(3) - cdf(2), 1 - cdf(3)]
    found = [np.exp(log_mass(one, middles([[b]], 4), 4))[0] for b in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_channels_depend_on_each_other_through_component_and_error(float64):
    """Of two likely colours, only matching channels are likely together."""
    two = Mixture(
        jnp.zeros((1, 2)),
        jnp.asarray([[[2.5, 2.5], [6.5, 6.5]]]),
        jnp.full((1, 2, 2), -3.0),
        jnp.zeros((1, 1)),
    )
    mass = lambda *colour: float(jnp.exp(log_mass(two, middles([colour], 8), 8))[0])  # noqa: E731
    assert mass(2, 2) == pytest.approx(0.5, abs=1e-3)
    assert mass(6, 6) == pytest.approx(0.5, abs=1e-3)
    assert mass(2, 6) < 1e-6
    moved = two._replace(log_scales=jnp.zeros((1, 2, 2)), slopes=jnp.ones((1, 1)))
    two = moved._replace(slopes=jnp.zeros((1, 1)))
    error = lambda m: float(log_mass(m, middles([(3, 3)], 8), 8)[0])  # noqa: E731
    assert error(moved) > error(two)


@pytest.mark.parametrize("num_bits", [5, 8])
def test_the_log_det_is_that_of_the_jacobian(float64, num_bits):
    num_bins = 2**num_bits
    mixture = drawn(40, num_bins, np.log(num_bins / 32) + np.array((-1, 3)))
    x = jnp.asarray(np.random.default_rng(1).uniform(-0.5, 0.5, (40, CHANNELS)))
    z, log_det = forward(mixture, x, num_bins)
    one = lambda m, x: mixture_cdf.forward(m, x, num_bins)[0]  # noqa: E731
    jacobians = jax.jit(jax.vmap(jax.jacobian(one, argnums=1)))(mixture, x)
    # Where the CDF is nearly flat, the difference of its edges, which autodiff takes, loses digits.
    inside = np.diagonal(jacobians, axis1=-2, axis2=-1).min(-1) > 1e-2
    assert inside.mean() > 0.5
    np.testing.assert_allclose(
        log_det[inside], np.linalg.slogdet(jacobians[inside])[1], rtol=1e-9, atol=1e-9
    )
    assert not np.triu(jacobians, 1).any()  # later channels do not change earlier ones
    x_again, inverse_log_det = inverse(mixture, z, num_bins)
    np.testing.assert_allclose(x_again[inside], x[inside], atol=1e-10)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-9)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("num_bits", [5, 8])
def test_every_bin_comes_back(num_bits, precision):
    num_bins = 2**num_bits
    bins = np.repeat(np.arange(num_bins)[:, None, None], CHANNELS, axis=2)
    with jax.enable_x64(precision == "float64"):
        one = Mixture(
            jnp.asarray([[0.5, 0.0, -0.5]]),
            jnp.asarray(np.linspace(0.1, 0.9, 9).reshape(1, 3, 3) * num_bins),
            jnp.full((1, 3, 3), np.log(num_bins / 8)),
            jnp.full((1, 3), 0.1),
        )
        for part in (0.02, 0.5, 0.98):
            x = (bins + part) / num_bins - 0.5
            x = jnp.asarray(x, precision)
            mixture = jax.tree.map(lambda a: a.astype(precision), tiled(one, num_bins))
            z, _ = forward(mixture, x, num_bins)
            x_again, _ = inverse(mixture, z, num_bins)
            assert z.dtype == x_again.dtype == x.dtype
            np.testing.assert_array_equal(logistic_mixture.bins_of(x_again, num_bins), bins)
            error = np.abs(x_again - x).max() * num_bins
            assert error < (1e-9 if precision == "float64" else 5e-3)


def test_any_latent_is_decoded_and_comes_back(float64):
    mixture = drawn(200, 32, (0.0, 3.0))
    z = jnp.asarray(np.random.default_rng(2).normal(size=(200, CHANNELS)))
    x, _ = inverse(mixture, z, 32)
    assert -0.5 <= x.min() <= x.max() < 0.5
    np.testing.assert_allclose(forward(mixture, x, 32)[0], z, atol=2e-3)  # at a bin's upper edge
    assert np.mean(np.abs(forward(mixture, x, 32)[0] - z) < 1e-7) > 0.99


def test_single_precision_is_near_double_precision_in_both_tails(float64):
    mixture = drawn(500, 256, (-2, 4), seed=3)
    x = jnp.asarray(np.random.default_rng(4).uniform(-0.5, 0.5, (500, CHANNELS)))
    exact_z, exact = forward(mixture, x, 256)
    exact_mass = log_mass(mixture, x, 256)
    with jax.enable_x64(False):
        lower = jax.tree.map(lambda a: a.astype(jnp.float32), (mixture, x))
        z, log_det = forward(*lower, 256)
        mass = log_mass(*lower, 256)
    same = np.asarray(
        logistic_mixture.bins_of(x, 256) == logistic_mixture.bins_of(lower[1], 256)
    ).all(-1)
    np.testing.assert_allclose(mass[same], exact_mass[same], rtol=1e-4, atol=1e-3)
    assert np.abs(exact_z[same]).max() > 20  # the tails are reached
    np.testing.assert_allclose(z[same], exact_z[same], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(log_det[same], exact[same], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("distance", [0.0, 10.0, 30.0, 1000.0])
def test_gradients_are_finite_where_a_mass_is_tiny(distance):
    """At a distance of 30 scales a mass is about 1e-13."""

    def loss(mixture, x):
        return jnp.sum(logistic_mixture.log_mass(mixture, x, 32))

    mixture = Mixture(
        jnp.zeros((1, 2)),
        jnp.full((1, 2, 3), 5.5 + distance),
        jnp.zeros((1, 2, 3)),
        jnp.zeros((1, 3)),
    )
    x = middles([[5, 5, 5]], 32)
    value, gradients = jax.jit(jax.value_and_grad(loss))(mixture, x)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    if distance:
        assert (gradients.means < 0).all()  # towards the pixel
        z, log_det = forward(mixture, x, 32)
        assert np.isfinite(z).all()
        assert np.isfinite(log_det).all()


def test_a_temperature_sharpens_weights_and_scales(float64):
    mixture = Mixture(
        jnp.log(jnp.asarray([[0.6, 0.4]])),
        jnp.asarray([[[10.5], [20.5]]]),
        jnp.zeros((1, 2, 1)),
        jnp.zeros((1, 0)),
    )
    z = jnp.asarray(np.random.default_rng(5).normal(size=(2000, 1, 1)))
    shares = {}
    for temperature in (1.0, 0.5, 0.0):
        sharp = logistic_mixture.sharpened(mixture, jnp.asarray(temperature))
        x, _ = inverse(tiled(sharp, 2000), z, 32)
        bins = np.asarray(logistic_mixture.bins_of(x, 32)).ravel()
        near = np.minimum(np.abs(bins - 10), np.abs(bins - 20))
        shares[temperature] = np.mean(bins < 15), near.mean()
    assert shares[1.0][0] == pytest.approx(0.6, abs=0.03)
    assert shares[0.5][0] == pytest.approx(0.36 / 0.52, abs=0.03)  # 0.6^2 / (0.6^2 + 0.4^2)
    assert shares[0.0] == (1.0, 0.0)
    assert shares[0.5][1] < shares[1.0][1]


@pytest.mark.parametrize("num_bins", [4, 256])
def test_drawn_pixels_follow_the_masses(num_bins):
    """Of all pairs of channels at 4 bins, and on average at 256, where there are too many."""
    count = 100_000
    mixture = drawn(1, num_bins, (0.2, 1.5))
    z = jnp.asarray(np.random.default_rng(6).normal(size=(count, 1, 3)), jnp.float32)
    draw = jax.jit(mixture_cdf.drawn, static_argnums=2)
    x = draw(tiled(mixture, count), jax.scipy.special.ndtr(z), num_bins)
    bins = np.asarray(logistic_mixture.bins_of(x, num_bins))[:, 0].astype(int)
    np.testing.assert_allclose(x[:, 0], middles(bins, num_bins), atol=1e-6)
    log_masses = np.asarray(log_mass(tiled(mixture, count), x, num_bins))[:, 0]
    again, _ = inverse(tiled(mixture, count), z, num_bins)
    of_inverse = np.asarray(log_mass(tiled(mixture, count), again, num_bins))[:, 0]
    error = log_masses.std() * np.sqrt(2 / count)
    assert abs(log_masses.mean() - of_inverse.mean()) < 5 * error
    if num_bins > 4:
        return
    counts = np.bincount(bins @ [16, 4, 1], minlength=64)
    every = np.stack(np.meshgrid(*3 * [np.arange(4)], indexing="ij"), axis=-1).reshape(-1, 1, 3)
    masses = np.exp(log_mass(tiled(mixture, 64), jnp.asarray(middles(every, 4), jnp.float32), 4))
    expected = count * np.asarray(masses)[:, 0]
    assert expected.sum() == pytest.approx(count, rel=1e-4)
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected + 1))


def test_guided_masses_are_powers_of_the_ratio(float64):
    """Of the first channel, and of the second one given the first, by their quantiles."""
    num_bins, count, scale = 8, 20_000, 2.5
    one, two = drawn(1, num_bins, (0.5, 2.0)), drawn(1, num_bins, (0.5, 2.0), seed=1)
    quantiles = (jnp.arange(count) + 0.5) / count
    guided = jax.jit(mixture_cdf.guided, static_argnums=4)

    def bins_of(uniform):
        both = (tiled(mixture, count) for mixture in (one, two))
        x = guided(*both, jnp.asarray(scale), uniform[:, None], num_bins)[:, 0]
        np.testing.assert_allclose(x, middles(logistic_mixture.bins_of(x, num_bins), num_bins))
        return np.asarray(logistic_mixture.bins_of(x, num_bins)).astype(int)

    def masses(mixture, first=None):
        """Of the bins of a channel: sums over the colours' masses."""
        colours = np.array(list(itertools.product(range(num_bins), repeat=CHANNELS)))
        x = middles(colours, num_bins)[:, None]
        of_colours = np.exp(log_mass(tiled(mixture, len(colours)), x, num_bins))[:, 0]
        cube = of_colours.reshape((num_bins,) * CHANNELS).sum(-1)
        return cube.sum(-1) if first is None else cube[first] / cube[first].sum()

    half = jnp.full(count, 0.5)
    firsts = bins_of(jnp.stack([quantiles, half, half], axis=-1))[:, 0]
    seconds = bins_of(jnp.stack([half, quantiles, half], axis=-1))
    assert len(set(seconds[:, 0])) == 1
    for drawn_bins, first in ((firsts, None), (seconds[:, 1], seconds[0, 0])):
        with_label, without = masses(one, first), masses(two, first)
        expected = with_label**scale * without ** (1 - scale)
        expected = np.where(with_label < 1e-6, 0, expected)
        found = np.bincount(drawn_bins, minlength=num_bins) / count
        np.testing.assert_allclose(found, expected / expected.sum(), atol=2 / count)


@pytest.mark.parametrize("num_bins", [8, 256])
def test_masses_of_bins_are_near_the_exact_ones(num_bins):
    mixture = jax.tree.map(lambda part: jnp.float32(part), drawn(50, num_bins))
    rng = np.random.default_rng(1)
    before = jnp.zeros((50, 0))
    for _ in range(CHANNELS):
        channel = logistic_mixture.channel_given(mixture, before, num_bins)
        masses = np.asarray(channel.masses_of_bins())
        assert masses.shape == (50, num_bins)
        assert masses.min() >= 0
        np.testing.assert_allclose(masses.sum(-1), 1, atol=1e-6)
        np.testing.assert_allclose(masses, np.exp(channel.log_mass_of_bins()), atol=5e-7)
        bins = rng.integers(0, num_bins, (50, 1))
        before = jnp.concatenate([before, jnp.float32(bins)], axis=-1)
