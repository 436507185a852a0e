"""The layers: what moves is moved on over the ground."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from square_clips import NETWORK, SIZE, apply, clips, drawn, last_of, states_of

from flowvid.conditioning.unet import layers, memory

# Compiled as a whole: operation by operation, each would be compiled by itself.
moved_on = jax.jit(layers._moved_on)
filled = jax.jit(layers._filled)


def test_pixels_move_on_by_whole_and_parts_of_pixels():
    colour = np.array([0.1, 0.2, 0.3])
    x = jnp.zeros((1, 6, 6, 3)).at[0, 2, 2].set(colour)
    weight = jnp.zeros((1, 6, 6, 1)).at[0, 2, 2].set(1.0)
    ground = jnp.full((1, 6, 6, 3), -0.4)
    whole, parts = (np.tile(np.float32(step), (1, 6, 6, 1)) for step in ([1, -2], [0.25, 0.5]))
    coverage, moved = moved_on(x, weight, whole, ground)
    np.testing.assert_array_equal(coverage, jnp.zeros((1, 6, 6, 1)).at[0, 3, 0].set(1.0))
    np.testing.assert_allclose(moved, ground.at[0, 3, 0].set(colour), rtol=1e-6)

    coverage, moved = moved_on(x, weight, parts, ground)
    np.testing.assert_allclose(coverage[0, 2:4, 2:4, 0], [[0.375, 0.375], [0.125, 0.125]])
    np.testing.assert_allclose(moved[0, 3, 3], 0.125 * colour - 0.875 * 0.4, rtol=1e-6)
    assert float(coverage.sum()) == 1


@pytest.mark.parametrize("step", [(-3.0, 0.0), (0.0, 4.0), (-2.5, 9.0)])
def test_what_leaves_the_frame_is_lost(step):
    weight = jnp.zeros((1, 6, 6, 1)).at[0, 2, 2].set(1.0)
    moves = np.tile(np.float32(step), (1, 6, 6, 1))
    ground = jnp.zeros((1, 6, 6, 3))
    coverage, moved = moved_on(jnp.ones((1, 6, 6, 3)), weight, moves, ground)
    assert float(coverage.sum()) == 0
    np.testing.assert_array_equal(moved, ground)


def test_the_frame_before_is_where_a_motion_comes_from():
    before, last = np.moveaxis(np.asarray(clips(4, 2)), 1, 0)
    # Squares are brighter than the ground, all of which is seen that either frame shows.
    masks = [np.max(frame, axis=-1, keepdims=True) > -0.25 for frame in (before, last)]
    places = [np.stack([np.argwhere(m).min(axis=0)[:2] for m in mask]) for mask in masks]
    step = np.float32(places[1] - places[0])
    assert np.any(step)
    moved = np.broadcast_to(step[:, None, None], (4, SIZE, SIZE, 2))
    found = layers.Layers(*(jnp.zeros((1, 1, 1, 1)) for _ in layers.Layers._fields))
    mask = np.float32(masks[1])
    found = found._replace(mask=mask, ground=np.minimum(before, last))
    drawn = jax.jit(layers.frame_before)(found, last, moved)
    np.testing.assert_allclose(drawn, before, atol=1e-3)


def test_motions_from_before_the_first_frame_are_the_earliest_known():
    moved = [jnp.full((1, 2, 2, 2), speed) for speed in (3.0, 2.0, 1.0)]
    for seen, expected in ((1, (0, 0, 0)), (2, (3, 3, 3)), (3, (3, 2, 2)), (4, (3, 2, 1))):
        known = layers._known(moved, jnp.full((1, 1, 1, 1), float(seen)))
        assert [float(field[0, 0, 0, 0]) for field in known] == list(expected)


def test_frames_that_were_seen_are_counted():
    videos = clips(3, 6)
    state = memory.first_memory(videos[:, 0])
    for number in range(6):
        state = memory.next_memory(state, videos[:, number])
        seen = layers._num_seen(state.frames)
        np.testing.assert_array_equal(seen, np.full((3, 1, 1, 1), min(number + 1, 4)))


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (5, 7)])
def test_gaps_are_filled_from_around_them(size):
    known = np.ones((1, *size, 1), np.float32)
    known[:, 1:4, 1:4] = 0
    x = np.repeat(np.where(known > 0, np.float32(0.3), np.float32(-0.5)), 3, axis=-1)
    found = filled(x, known)
    np.testing.assert_allclose(found, 0.3, atol=0.03)


def test_before_training_the_next_frame_is_the_ground():
    found = apply(drawn(), last_of(states_of(clips(2, 6))))
    assert float(np.abs(found.mask - jax.nn.sigmoid(2 * layers._FIRST_LOGIT)).max()) < 1e-6
    np.testing.assert_allclose(found.next_frame, found.ground, atol=0.05)
    assert layers.flop(NETWORK, SIZE, SIZE) > 0
