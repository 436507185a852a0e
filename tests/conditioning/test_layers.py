"""The layers: what moves is parted from the ground, and moved on over it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layer_networks import NETWORK, SIZE, clips, drawn, last_of, states_of

from flowvid.conditioning.unet import layers

# Compiled as a whole: operation by operation, each would be compiled by itself.
moved_on = jax.jit(layers._moved_on)
filled = jax.jit(layers._filled)


def test_pixels_move_on_by_whole_and_parts_of_pixels():
    x = jnp.zeros((1, 6, 6, 3)).at[0, 2, 2].set(jnp.array([0.1, 0.2, 0.3]))
    weight = jnp.zeros((1, 6, 6, 1)).at[0, 2, 2].set(1.0)
    weight_there, moved = moved_on(x, weight, np.tile(np.float32([1.0, -2.0]), (1, 6, 6, 1)))
    np.testing.assert_array_equal(weight_there, jnp.zeros((1, 6, 6, 1)).at[0, 3, 0].set(1.0))
    np.testing.assert_allclose(moved[0, 3, 0], [0.1, 0.2, 0.3], rtol=1e-6)

    weight_there, moved = moved_on(x, weight, np.tile(np.float32([0.25, 0.5]), (1, 6, 6, 1)))
    np.testing.assert_allclose(weight_there[0, 2:4, 2:4, 0], [[0.375, 0.375], [0.125, 0.125]])
    np.testing.assert_allclose(moved[0, 3, 3], 0.125 * np.array([0.1, 0.2, 0.3]), rtol=1e-6)
    assert float(weight_there.sum()) == 1


@pytest.mark.parametrize("step", [(-3.0, 0.0), (0.0, 4.0), (-2.5, 9.0)])
def test_what_leaves_the_frame_is_lost(step):
    weight = jnp.zeros((1, 6, 6, 1)).at[0, 2, 2].set(1.0)
    moves = np.tile(np.float32(step), (1, 6, 6, 1))
    coverage, _ = moved_on(jnp.ones((1, 6, 6, 3)), weight, moves)
    assert float(coverage.sum()) == 0


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (5, 7)])
def test_gaps_are_filled_from_around_them(size):
    known = np.ones((1, *size, 1), np.float32)
    known[:, 1:4, 1:4] = 0
    x = np.repeat(np.where(known > 0, np.float32(0.3), np.float32(-0.5)), 3, axis=-1)
    found = filled(x, known)
    np.testing.assert_allclose(found, 0.3, atol=0.03)


def test_before_training_the_next_frame_is_the_ground():
    state = last_of(states_of(drawn(), clips(2, 6)))
    track = state.track
    assert float(np.abs(track.mask - jax.nn.sigmoid(2 * layers._FIRST_LOGIT)).max()) < 1e-6
    found = jax.jit(layers.next_frame)(state.memory.frames[0], track, None)
    np.testing.assert_allclose(found.frame, track.ground, atol=0.05)
    assert layers.flop(NETWORK, SIZE, SIZE) > 0


def test_motion_of_earlier_frames_is_carried_along():
    """A square goes down by 1, then along by 1: where it is then, both are known."""
    videos = np.full((1, 4, SIZE, SIZE, 3), -0.4, np.float32)
    texture = np.random.default_rng(0).uniform(0, 0.5, (5, 5, 3))
    for frame, (row, column) in zip(videos[0], ((1, 2), (2, 2), (3, 2), (3, 3)), strict=True):
        frame[row : row + 5, column : column + 5] = texture
    params = jax.tree.map(np.asarray, drawn())
    params["params"]["read_off"]["bias"] = np.float32([4, 0, 0, 0, 0])  # all of it may move
    moved = last_of(states_of(params, jnp.asarray(videos))).track.moved
    np.testing.assert_allclose(moved[0, 5, 5], [0, 1, 1, 0, 1, 0], atol=0.25)
    first = states_of(params, jnp.asarray(videos[:, :1])).track.moved
    np.testing.assert_array_equal(first, np.zeros_like(first))  # nothing was there before
