"""The layers: what moves is moved on over the ground, and both are learned by hindsight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from flowvid.conditioning.unet import dynamics, hindsight, layers, memory

SIZE = 12
NETWORK = layers.LayerNetwork(width=8, factor=1, levels=1)


def clips(count, frames, seed=0):
    """Bright 4x4 squares that move over a dark, textured ground, [B, T, H, W, 3]."""
    rng = np.random.default_rng(seed)
    found = np.repeat(rng.uniform(-0.4, -0.3, (count, 1, SIZE, SIZE, 3)), frames, axis=1)
    for clip in found:
        step = rng.choice([-1, 1], 2) * (rng.random(2) < 0.8)
        place = np.where(step > 0, 0, SIZE - 4) + step * rng.integers(0, 3, 2)
        colour = rng.uniform(0, 0.5, 3)
        for number, frame in enumerate(clip):
            row, column = np.clip(place + number * step, 0, SIZE - 4)
            frame[row : row + 4, column : column + 4] = colour
    return jnp.asarray(found, jnp.float32)


# Compiled as a whole: operation by operation, each would be compiled by itself.
apply = jax.jit(NETWORK.apply)
moved_on = jax.jit(layers._moved_on)
filled = jax.jit(layers._filled)


@jax.jit
def states_of(videos):
    """The memory after each frame, arrays [B, T, ...]."""

    def step(state, frame):
        state = memory.next_memory(state, frame)
        return state, state

    first = memory.first_memory(videos[:, 0])
    _, found = lax.scan(step, first, jnp.moveaxis(videos, 1, 0))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), found)


def last_of(states):
    return jax.tree.map(lambda x: np.asarray(x)[:, -1], states)


@functools.cache
def drawn():
    """Untrained parameters."""
    return jax.jit(NETWORK.init)(jax.random.key(0), last_of(states_of(clips(2, 6))))


def learner_of(params):
    def layers_of(leaves):
        return lambda memory: NETWORK.apply(leaves, memory)

    return hindsight.Learner(
        layers=layers_of(params),
        fixed_layers=layers_of(lax.stop_gradient(params)),
        change=lambda objects: NETWORK.apply(params, objects, None, method="change"),
        log_odds=lambda objects: NETWORK.apply(params, objects, None, method="log_odds"),
    )


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


def draws_of(turns, count=500):
    keys = jax.random.split(jax.random.key(1), count)
    draw = jax.jit(jax.vmap(lambda key: hindsight._drawn(key, jnp.asarray(turns, jnp.float32))))
    return [np.asarray(drawn) for drawn in draw(keys)]


def test_drawn_frames_are_followed_by_a_real_one():
    for followed in (1, 2, 29):
        real, last, own = draws_of(np.ones(followed))
        for frames in (real, last):
            assert (frames.min(), frames.max()) == (0, followed - 1)
        assert np.all(own <= last)
        assert np.all(own >= np.minimum(last, 1))
    assert set(real) == set(last) == set(range(29))
    assert set(own) == set(range(hindsight.MOST_STEPS + 1))
    assert np.mean(real < 4) > 0.3  # early frames, where least is known
    assert np.mean(real == last) < 0.2


def test_frames_at_which_motion_changes_are_drawn_more_often():
    turns = np.zeros(29)
    turns[20] = 1.5
    for frames in draws_of(turns)[:2]:
        # It is among six candidates with a probability of 1 - (1 - 0.0205)^6.
        assert np.mean(frames == 20) == pytest.approx(0.117, abs=0.04)


def test_motion_changes_where_a_square_turns_round():
    places = [0, 2, 4, 6, 4, 2, 2, 2]
    videos = np.full((1, len(places), SIZE, SIZE, 3), -0.4, np.float32)
    for frame, place in zip(videos[0], places, strict=True):
        frame[place : place + 3, 3:6] = 0.3
    ground = jnp.full((1, SIZE, SIZE, 3), -0.4)
    turns_of = jax.jit(hindsight._turns)
    turns = turns_of(jnp.asarray(videos), ground)
    np.testing.assert_allclose(turns, [[0, 0, 0, 4, 0, 2, 0]], atol=1e-5)
    still = turns_of(jnp.repeat(ground[:, None], len(places), axis=1), ground)
    np.testing.assert_array_equal(still, np.zeros((1, len(places) - 1)))


def test_own_frames_are_seen_as_often_as_drawn():
    params, state = drawn(), last_of(states_of(clips(3, 4)))
    keys = jax.random.split(jax.random.key(0), 3)
    after_own_frames = functools.partial(
        hindsight._after_own_frames, functools.partial(NETWORK.apply, params)
    )
    seen = jax.tree.map(np.asarray, jax.jit(after_own_frames)(keys, state, np.array([0, 1, 3])))
    for clip, count in enumerate((0, 1, 3)):
        older = state.frames[0][clip]
        np.testing.assert_array_equal(seen.frames[count][clip], older)
        if count:
            assert float(np.abs(seen.frames[0][clip] - older).max()) > 0
    own = apply(params, state).next_frame[1]
    np.testing.assert_allclose(seen.frames[0][1], own, atol=6 * hindsight._NOISE)


def test_layers_that_are_right_have_a_smaller_loss_than_wrong_ones():
    videos = np.asarray(clips(8, 12))
    states = jax.tree.map(np.asarray, states_of(videos))
    at_4, final = (jax.tree.map(lambda x, t=t: x[:, t], states) for t in (4, 11))
    real, after = jnp.asarray(videos[:, 4]), jnp.asarray(videos[:, 5])
    off = jax.jit(hindsight._off)
    moved = np.asarray(off(real, final.ground))
    moves = -np.asarray(jax.jit(hindsight.motion, static_argnums=3)(real, after, moved, 1))
    right = layers.Layers(
        mask_logit=20 * moved - 10,
        wrong_logit=20 * np.asarray(off(at_4.ground, final.ground)) - 10,
        mask=moved,
        is_ground=1 - np.asarray(off(real, at_4.ground)),
        ground=final.ground,
        filled=final.ground,
        moved=moves,
        expected=moves,
        objects=moves,
        moves=moves,
        coverage=moved,
        next_frame=after,
    )

    @jax.jit
    def losses(found, memory, at_end):
        is_real = jnp.ones((8, 1, 1, 1))
        return hindsight._losses(found, memory, at_end, real, after, is_real, 12, 1)

    smallest = losses(right, at_4, final)
    assert sum(map(float, smallest.values())) < 1e-3
    wrong = right._replace(
        mask_logit=-right.mask_logit,
        wrong_logit=-right.wrong_logit,
        filled=right.filled + 0.1,
        moves=right.moves + 1,
        next_frame=real,
    )
    for name, value in losses(wrong, at_4, final).items():
        assert float(value) > 10 * float(smallest[name]) + 1e-3, name


def test_the_motion_of_what_moves_has_the_smallest_loss():
    videos = np.full((2, 8, SIZE, SIZE, 3), -0.4, np.float32)
    texture = np.random.default_rng(0).uniform(0, 0.5, (2, 5, 5, 3))
    for number in range(8):
        videos[:, number, number : number + 5, 4:9] = texture  # goes down by a pixel per frame
    zeros = jnp.zeros((1, 1, 1, 1))

    def layers_of(memory):
        shape = memory.mean.shape[:3]
        found = layers.Layers(*(zeros for _ in layers.Layers._fields))
        mask, still = jnp.ones((*shape, 1)), jnp.zeros((*shape, 2))
        return found._replace(mask=mask, expected=still, objects=still)

    @jax.jit
    def loss(step, videos, states):
        change = lambda objects: jnp.broadcast_to(step, objects.shape)  # noqa: E731
        learner = hindsight.Learner(layers_of, layers_of, change, log_odds=change)
        keys = jax.random.split(jax.random.key(0), 2)
        return hindsight._loss_of_dynamics(learner, keys, videos, states, 1)

    videos = jnp.asarray(videos)
    states = states_of(videos)
    of_steps = {
        step: float(loss(jnp.array(step).reshape(1, 1, 1, 2), videos, states))
        for step in ((1.0, 0.0), (0.0, 0.0), (2.0, 0.0), (1.0, 1.0))
    }
    right = of_steps.pop((1.0, 0.0))
    assert all(right < 0.5 * wrong for wrong in of_steps.values()), (right, of_steps)


def test_the_motion_at_a_beginning_has_the_smallest_loss():
    videos = np.full((2, 8, SIZE, SIZE, 3), -0.4, np.float32)
    texture = np.random.default_rng(0).uniform(0, 0.5, (2, 5, 5, 3))
    for number in range(8):
        videos[:, number, number : number + 5, 4:9] = texture  # goes down by a pixel per frame
    zeros = jnp.zeros((1, 1, 1, 1))

    def layers_of(memory):
        shape = memory.mean.shape[:3]
        found = layers.Layers(*(zeros for _ in layers.Layers._fields))
        return found._replace(mask=jnp.ones((*shape, 1)), objects=jnp.zeros((*shape, 2)))

    @jax.jit
    def loss(probable, videos, ground):
        def log_odds(objects):
            of_one = 9.0 * jax.nn.one_hot(probable, dynamics.BEGINNINGS)
            return jnp.broadcast_to(of_one, (*objects.shape[:3], dynamics.BEGINNINGS))

        learner = hindsight.Learner(layers_of, layers_of, change=None, log_odds=log_odds)
        keys = jax.random.split(jax.random.key(0), 2)
        return hindsight._loss_of_beginning(learner, keys, videos, ground, 1)

    ground = np.full((2, SIZE, SIZE, 3), -0.4, np.float32)
    of_motions = [float(loss(motion, videos, ground)) for motion in range(dynamics.BEGINNINGS)]
    likeliest = dynamics.beginnings(1)[np.argmin(of_motions)]
    np.testing.assert_allclose(likeliest, [1, 0], atol=1e-6)
    assert min(of_motions) < 0.05 * np.sort(of_motions)[1]


@jax.jit
def loss_and_gradients(params, keys, videos, states):
    """((loss, logs), gradients), in all tests of 8 clips of 10 frames: it takes long to compile."""

    def loss(params):
        return hindsight.hindsight_loss(learner_of(params), keys, videos, states, 1)

    return jax.value_and_grad(loss, has_aux=True)(params)


def test_the_mean_over_devices_is_the_loss_of_the_whole_batch():
    videos, params = np.asarray(clips(16, 10)), drawn()
    keys = jax.random.split(jax.random.key(4), 16)
    whole = (keys, videos, jax.tree.map(np.asarray, states_of(videos)))
    halves = [jax.tree.map(lambda x, at=at: x[at], whole) for at in (slice(0, 8), slice(8, 16))]
    of_halves = [float(loss_and_gradients(params, *half)[0][0]) for half in halves]
    loss = jax.jit(lambda *whole: hindsight.hindsight_loss(learner_of(params), *whole, 1)[0])
    assert float(loss(*whole)) == pytest.approx(np.mean(of_halves), rel=1e-5)


def test_too_short_videos_have_no_loss():
    videos = clips(2, 1)
    loss, logs = hindsight.hindsight_loss(
        learner_of({}),
        jax.random.split(jax.random.key(0), 2),
        videos,
        states_of(videos),
        1,
    )
    assert float(loss) == 0
    assert logs == {}


def test_training_parts_what_moves_from_the_ground():
    videos, held_out = np.asarray(clips(64, 10)), clips(16, 10, seed=1)
    params, states = drawn(), jax.tree.map(np.asarray, states_of(videos))
    optimiser, rng = optax.adam(1e-2), np.random.default_rng(2)

    @jax.jit
    def update(params, opt_state, gradients):
        updates, opt_state = optimiser.update(gradients, opt_state)
        return optax.apply_updates(params, updates), opt_state

    opt_state = jax.jit(optimiser.init)(params)
    for keys in jax.random.split(jax.random.key(2), (40, 8)):
        picked = rng.choice(64, 8, replace=False)
        ours = jax.tree.map(lambda x, picked=picked: x[picked], (videos, states))
        (_, logs), gradients = loss_and_gradients(params, keys, *ours)
        params, opt_state = update(params, opt_state, gradients)
    assert set(logs) == {
        f"layers/{name}"
        for name in ("mask", "memory", "ground", "next_frame", "motion", "dynamics", "beginning")
    }

    seen = last_of(states_of(held_out[:, :4]))
    found = apply(params, seen)
    after = np.asarray(held_out)[:, 4]
    error, of_last = (float(np.mean((x - after) ** 2)) for x in (found.next_frame, seen.frames[0]))
    assert error < 0.3 * of_last
