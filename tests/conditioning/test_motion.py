"""Motion between two frames: of whole pixels, of fractions, of large frames, and of two things."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowvid.conditioning.unet import motion
from flowvid.conditioning.unet.settings import coarseness
from flowvid.sizes import Size


@jax.jit
def found_motion(frame, before, mask):
    factor = coarseness(Size(*frame.shape[1:3]))
    found = motion.motion(frame, before, mask, factor)
    return motion.enlarged(found, factor, frame.shape)


def scene(*squares, size=32, side=10):
    """A faintly textured ground with bright squares, with soft edges and a shade, and their mask.

    Squares are (row, column) of the upper left corner, to fractions of a pixel.
    """
    ground = np.random.default_rng(0).uniform(-0.42, -0.38, (size, size, 3))
    at = np.arange(size)
    masks = []
    for row, column in squares:
        along, across = (
            np.clip((at + 1 - x) / 2, 0, 1) * np.clip((x + side - at) / 2, 0, 1)
            for x in (row, column)
        )
        share = (along[:, None] * across)[..., None]
        shade = 0.3 - 0.02 * (at[:, None] - row) + 0.01 * (at - column)
        ground = (1 - share) * ground + share * np.stack([shade, shade / 2, -shade], axis=-1)
        masks.append(share)
    mask = np.max(masks, axis=0)
    return jnp.asarray(ground[None], jnp.float32), jnp.asarray(mask[None], jnp.float32)


def moved(step, start=(10, 10), **of_scene):
    (before, _), (frame, mask) = (
        scene(tuple(s + t * d for s, d in zip(start, step, strict=True)), **of_scene)
        for t in (0, 1)
    )
    return found_motion(frame, before, mask), mask


@pytest.mark.parametrize("step", [(0, 0), (1, 0), (0, -2), (2, 1), (-2, 2), (0.5, 0), (-1.3, 0.7)])
def test_displacements_are_found_to_a_tenth_of_a_pixel(step):
    found, mask = moved(step)
    inside = np.asarray(mask[..., 0] == 1)
    np.testing.assert_allclose(found[inside], np.tile(step, (inside.sum(), 1)), atol=0.1)


@pytest.mark.parametrize("size", [48, 50, 64])
def test_large_frames_have_larger_displacements(size):
    step = (size // 10, -size // 12)
    found, mask = moved(step, (size // 3, size // 2), size=size, side=size // 4)
    inside = np.asarray(mask[..., 0] == 1)
    assert found.shape == (1, size, size, 2)
    np.testing.assert_allclose(found[inside], np.tile(step, (inside.sum(), 1)), atol=0.3)


def test_things_apart_move_each_for_itself():
    squares = np.array([(3, 3), (20, 20)])
    steps = np.array([(1, 0), (0, -1)])
    (before, _), (frame, mask) = (scene(*(squares + t * steps), size=32) for t in (0, 1))
    found = found_motion(frame, before, mask)
    for square, step in zip(squares, steps, strict=True):
        row, column = square + step + 3
        np.testing.assert_allclose(found[0, row, column], step, atol=0.1)


def test_without_texture_nothing_moves():
    blank = jnp.full((1, 16, 16, 3), 0.2)
    found = found_motion(blank, blank, jnp.zeros((1, 16, 16, 1)))
    np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_windows_are_summed_inside_the_frame(reach):
    x = np.random.default_rng(1).normal(size=(2, 5, 7, 3))
    expected = [
        [
            x[:, max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1].sum((1, 2))
            for j in range(7)
        ]
        for i in range(5)
    ]
    found = motion.window_sum(jnp.asarray(x), reach)
    np.testing.assert_allclose(found, np.moveaxis(expected, 2, 0), rtol=1e-4, atol=1e-5)


def test_sampling_is_linear_between_pixels_and_repeats_edges():
    x = jnp.arange(12.0).reshape(1, 3, 4, 1)
    at = jnp.array([[[[1.5, 2.25], [-4.0, 0.0]], [[2.0, 3.0], [9.0, 9.0]]]])
    np.testing.assert_allclose(motion.sampled_at(x, at)[0, ..., 0], [[8.25, 0], [11, 11]])


def test_means_over_the_mask_in_squares():
    """What is cut off at an edge counts nowhere; a square without any mask has its plain mean."""
    x = np.random.default_rng(2).normal(size=(2, 5, 7, 3))
    mask = np.zeros((2, 5, 7, 1))
    mask[:, 0, 1], mask[:, 1, 0], mask[1, 2, 4] = 1, 0.5, 1
    found, of_mask = motion.reduced_mean(jnp.asarray(x), jnp.asarray(mask), 2)
    assert found.shape == (2, 2, 3, 3)
    expected = (x[:, 0, 1] + 0.5 * x[:, 1, 0]) / 1.5
    np.testing.assert_allclose(found[:, 0, 0], expected, atol=1e-3)
    np.testing.assert_allclose(found[1, 1, 2], x[1, 2, 4], atol=2e-3)
    np.testing.assert_allclose(found[:, 0, 2], x[:, :2, 4:6].mean((1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_mask[:, 0, 0], np.full((2, 1), 1.5 / 4))
