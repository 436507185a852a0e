"""PSNR and SSIM of frames, against independent formulas."""

import numpy as np
import pytest
from scipy import ndimage

from experiments.running import frame_measures

RNG = np.random.default_rng(0)
SMOOTH = ndimage.uniform_filter(RNG.normal(size=(3, 20, 16, 3)), (0, 5, 5, 0))
REAL = np.clip(128 + 400 * SMOOTH, 0, 255).astype(np.uint8)
NOISY = np.clip(REAL + RNG.normal(0, [[[[4]]], [[[20]]], [[[60]]]], REAL.shape), 0, 255)
NOISY = NOISY.astype(np.uint8)


def ssim_of_channel(a, b):
    """Wang et al. 2004, equation 13, where the window lies within the image."""
    place = np.arange(-5, 6)
    window = np.exp(-(place[:, None] ** 2 + place**2) / (2 * 1.5**2))
    window /= window.sum()
    blur = lambda x: ndimage.correlate(x, window)[5:-5, 5:-5]  # noqa: E731
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    both = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return np.mean(found / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))


def test_psnr_is_that_of_the_mean_squared_error():
    squares = ((NOISY.astype(float) - REAL) ** 2).mean(axis=(1, 2, 3))
    expected = 10 * np.log10(255**2 / squares)
    np.testing.assert_allclose(frame_measures.psnr(REAL, NOISY), expected, rtol=1e-5)
    black = np.zeros((1, 2, 2, 3), np.uint8)
    assert frame_measures.psnr(black, black + np.uint8(16))[0] == pytest.approx(24.048, abs=1e-3)


def test_psnr_of_equal_frames_is_bounded_by_the_least_error():
    bound = 10 * np.log10(255**2 * 20 * 16 * 3)
    np.testing.assert_allclose(frame_measures.psnr(REAL, REAL), bound)
    nearly = REAL.copy()
    nearly[:, 0, 0, 0] ^= 1
    np.testing.assert_allclose(frame_measures.psnr(REAL, nearly), bound, rtol=1e-5)


def test_ssim_is_the_published_one():
    expected = [
        np.mean([ssim_of_channel(*pair) for pair in zip(a.T, b.T, strict=True)])
        for a, b in zip(REAL.astype(float), NOISY.astype(float), strict=True)
    ]
    found = frame_measures.ssim(REAL, NOISY)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert np.all(np.diff(found) < -0.02)  # more noise is less similar
    np.testing.assert_allclose(frame_measures.ssim(REAL, REAL), 1, atol=1e-6)


def test_clips_are_measured_frame_by_frame():
    real, noisy = REAL[None], NOISY[None]
    found = frame_measures.of_clips(
        frame_measures.psnr, np.concatenate([real, real]), np.concatenate([noisy, real])
    )
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found[0], frame_measures.psnr(REAL, NOISY), rtol=1e-6)
