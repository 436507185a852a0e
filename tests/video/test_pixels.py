"""Pixels, densities and bits per dimension: the units that every reported number rests on."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from flowvid import random_keys
from flowvid.config.making import preset_config
from flowvid.config.metrics import METRICS
from flowvid.flows.density import gaussian_log_density
from flowvid.video import joint
from flowvid.video.frames import Batch, head_frames, tail_frames
from flowvid.video.pixels import bits_per_dim, dequantize, log_prob_from_bits, to_grid, to_pixels

FIVE, EIGHT, PAPER = METRICS["5-bit"], METRICS["8-bit"], METRICS["paper"]
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


@pytest.fixture
def pixels():
    """Every grey value, as four images of 8x8x1 [4, 8, 8, 1]."""
    return jnp.arange(256, dtype=jnp.uint8).reshape(4, 8, 8, 1)


def keys(count: int):
    return jax.random.split(jax.random.key(0), count)


def test_metrics_are_known_by_the_names_that_are_printed():
    assert {name: (m.n_bits, m.floor) for name, m in METRICS.items()} == {
        "5-bit": (5, True),
        "8-bit": (8, True),
        "paper": (5, False),
    }


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (FIVE, np.repeat(np.arange(32), 8) / 32),
        (EIGHT, np.arange(256) / 256),
        (PAPER, np.arange(256) / 256),
    ],
    ids=["5-bit", "8-bit", "paper"],
)
def test_grid(metric, expected, pixels):
    np.testing.assert_array_equal(to_grid(pixels, metric).ravel(), expected - 0.5)


@every_metric
def test_noise_is_uniform_over_one_bin(metric, pixels):
    many = jnp.tile(pixels, (16, 1, 1, 1))
    noise = dequantize(keys(64), many, metric) - to_grid(many, metric)
    noise = np.asarray(noise, np.float64) * 2**metric.n_bits
    assert 0 <= noise.min() < 0.01
    assert 0.99 < noise.max() <= 1
    assert scipy.stats.kstest(noise.ravel(), "uniform").pvalue > 1e-3
    # An example's noise is its own key's, whatever the batch.
    alone = dequantize(keys(64)[5:6], many[5:6], metric)
    np.testing.assert_array_equal(alone, dequantize(keys(64), many, metric)[5:6])
    assert np.abs(noise[0] - noise[4]).max() > 0.1


def test_pixels_come_back(pixels):
    def there_and_back(metric):
        x = dequantize(keys(4), pixels, metric)
        return np.asarray(to_pixels(x, metric), int)

    values = np.asarray(pixels, int)
    np.testing.assert_array_equal(there_and_back(EIGHT), values)
    np.testing.assert_array_equal(there_and_back(FIVE), values // 8 * 8 + 4)
    errors = there_and_back(PAPER) - values
    assert np.abs(errors).max() <= 4  # half of the noise's width of 8 grey values
    assert np.abs(errors).max() > 1


@every_metric
def test_pixels_out_of_range_are_clipped(metric):
    outside = jnp.array([-9.0, -0.51, 0.6, 9.0]).reshape(1, 2, 2, 1)
    inside = jnp.array([-0.5, -0.5, 0.5, 0.5]).reshape(1, 2, 2, 1) * (1 - 2.0**-8)
    clipped = to_pixels(outside, metric)
    assert clipped.dtype == jnp.uint8
    if metric.floor:
        np.testing.assert_array_equal(clipped, to_pixels(inside, metric))
    else:
        np.testing.assert_array_equal(clipped.ravel(), [0, 0, 255, 255])


def test_gaussian_log_density_equals_scipy():
    rng = np.random.default_rng(0)
    x, mean, log_sd = rng.normal(size=(3, 2, 3, 4, 5)).astype(np.float32)
    expected = scipy.stats.norm(mean, np.exp(log_sd)).logpdf(x).sum(axis=(1, 2, 3))
    actual = gaussian_log_density(jnp.asarray(x), jnp.asarray(mean), jnp.asarray(log_sd))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    expected = scipy.stats.norm().logpdf(x).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(gaussian_log_density(jnp.asarray(x)), expected, rtol=1e-5)


@every_metric
@pytest.mark.parametrize("bits", [0.0, 1.0, 5.0])
def test_bits_of_a_uniform_density(metric, bits):
    # Uniform over 2^bits of the 2^n bins in each of D dimensions: density 2^(n - bits) each.
    num_dims = 12
    log_prob = jnp.array([num_dims * (metric.n_bits - bits) * math.log(2)])
    actual = bits_per_dim(log_prob, num_dims, metric)
    np.testing.assert_allclose(actual, [bits], atol=1e-6)
    np.testing.assert_allclose(
        log_prob_from_bits(actual, num_dims, metric), log_prob, rtol=1e-6, atol=1e-5
    )


@pytest.mark.parametrize("metric", [FIVE, EIGHT], ids=["5-bit", "8-bit"])
@pytest.mark.parametrize("grey", [0, 100, 255])
def test_floored_bits_bound_those_of_the_quantised_pixel(metric, grey):
    """E_u[bits of v's bin plus noise u] >= -log2 P(bin), by Jensen; close for a smooth density."""
    mean, sd = -0.1, 0.05
    pixel = jnp.full((1, 1, 1), grey, jnp.uint8)
    low = float(to_grid(pixel, metric)[0, 0, 0])
    width = 2.0**-metric.n_bits

    def bits(u):
        x = jnp.full((1, 1, 1, 1), low + u)
        log_prob = gaussian_log_density(x, mean, math.log(sd))
        return float(bits_per_dim(log_prob, 1, metric)[0])

    expected_bits = scipy.integrate.fixed_quad(np.vectorize(bits), 0, width, n=5)[0] / width
    model = scipy.stats.norm(mean, sd)
    if low > mean:  # in the upper tail, differences of the distribution function cancel
        mass = model.sf(low) - model.sf(low + width)
    else:
        mass = model.cdf(low + width) - model.cdf(low)
    assert expected_bits >= -math.log2(mass) - 1e-4
    assert expected_bits < -math.log2(mass) + 3


@pytest.mark.parametrize(("levels", "flow_steps"), [(2, 2), (4, 32)])
def test_the_untrained_row_of_table_1(levels, flow_steps):
    """An untouched model is a rotation under N(0, 1): 5 + log2(2 pi)/2 + E[x^2]/(2 ln 2) bits."""
    config = preset_config(
        "paper_small",
        variant="init",
        levels=levels,
        head_steps=flow_steps,
        tail_steps=flow_steps,
        width=4,
        image_size=16,
        num_frames=3,
        tail_frames=None,
        n_bits=5,
        dequantization="paper",
    )
    rng = np.random.default_rng(0)
    batch = Batch(
        jnp.asarray(rng.integers(0, 256, (2, 3, 16, 16, 3), np.uint8)),
        jnp.zeros(2, jnp.int32),
        jnp.array([7, 9], jnp.uint32),
    )
    seed = 3

    @jax.jit
    def both(batch):
        params = joint.init_params(config, batch)
        keys = random_keys.keys_of_frames(seed, random_keys.EVALUATION, 0, batch.example)
        frames = head_frames(keys, batch, PAPER), tail_frames(keys, batch, PAPER).x
        return joint.eval_step(config, PAPER, seed, params, batch), frames

    bits, frames = both(batch)
    for actual, x in zip(bits, frames, strict=True):
        mean_square = np.mean(np.asarray(x, np.float64) ** 2, axis=(-3, -2, -1))
        expected = 5 + math.log2(2 * math.pi) / 2 + mean_square / (2 * math.log(2))
        np.testing.assert_allclose(actual, expected, atol=1e-4)
