"""Dequantisation of random pixels: `to_pixels` undoes it, up to the bits that the metric drops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowvid.config.metrics import METRICS
from flowvid.video.pixels import dequantize, to_grid, to_pixels

SHAPE = (2, 4, 4, 3)
pixels_of_any_value = arrays(np.uint8, SHAPE)
seeds = st.integers(0, 2**32 - 1)


@functools.cache
def dequantized_and_back(name):
    @jax.jit
    def compute(seed, pixels):
        x = dequantize(jax.random.split(jax.random.key(seed), len(pixels)), pixels, METRICS[name])
        return to_grid(pixels, METRICS[name]), x, to_pixels(x, METRICS[name])

    return compute


def computed(name, seed, pixels):
    """Returns grid points, dequantised values and pixels again, of one metric."""
    results = dequantized_and_back(name)(np.uint32(seed), jnp.asarray(pixels))
    return (np.asarray(result) for result in results)


@pytest.mark.parametrize(("name", "n_bits"), [("8-bit", 8), ("5-bit", 5)])
@given(pixels=pixels_of_any_value, seed=seeds)
def test_floored_pixels_come_back(name, n_bits, pixels, seed):
    grid, x, again = computed(name, seed, pixels)
    width = 2 ** (8 - n_bits)
    np.testing.assert_array_equal((grid + 0.5) * 2**n_bits, pixels // width)
    noise = x.astype(np.float64) - grid
    assert noise.min() >= 0
    assert noise.max() <= 2.0**-n_bits
    # Noise within the rounding of float32 of the upper edge may be rounded to the next bin.
    inside = noise < 2.0**-n_bits - 2.0**-23
    assert inside.mean() > 0.95
    np.testing.assert_array_equal(again[inside], (pixels // width * width + width // 2)[inside])


@given(pixels=pixels_of_any_value, seed=seeds)
def test_pixels_of_the_papers_metric_move_by_half_the_noise(pixels, seed):
    grid, x, again = computed("paper", seed, pixels)
    np.testing.assert_array_equal((grid + 0.5) * 256, pixels)
    assert x.min() >= -0.5
    # The noise is uniform over 8 grey values, of which `to_pixels` subtracts the mean.
    assert np.abs(again.astype(int) - pixels).max() <= 4


@pytest.mark.parametrize(
    ("name", "lowest", "highest"), [("5-bit", 4, 252), ("8-bit", 0, 255), ("paper", 0, 255)]
)
@given(x=arrays(np.float32, SHAPE, elements=st.floats(-1e6, 1e6, width=32)))
def test_values_out_of_range_are_clipped(name, lowest, highest, x):
    found = np.asarray(to_pixels(jnp.asarray(x), METRICS[name]))
    assert (found[x < -0.5] == lowest).all()
    assert (found[x >= 0.6] == highest).all()
