"""What the layers learn from: hindsight of each clip."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from square_clips import NETWORK, SIZE, apply, clips, drawn, last_of, states_of

from flowvid.conditioning.unet import dynamics, hindsight, layers


def learner_of(params):
    def layers_of(leaves):
        return lambda memory: NETWORK.apply(leaves, memory)

    return hindsight.Learner(
        layers=layers_of(params),
        fixed_layers=layers_of(lax.stop_gradient(params)),
        change=lambda objects: NETWORK.apply(params, objects, None, method="change"),
        log_odds=lambda objects: NETWORK.apply(params, objects, None, method="log_odds"),
    )


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


def falling():
    """Two clips of a textured square that goes down by a pixel per frame."""
    videos = np.full((2, 8, SIZE, SIZE, 3), -0.4, np.float32)
    texture = np.random.default_rng(0).uniform(0, 0.5, (2, 5, 5, 3))
    for number in range(8):
        videos[:, number, number : number + 5, 4:9] = texture
    return jnp.asarray(videos)


def all_moving(memory):
    """Layers in which everything moves and is expected to stay."""
    shape = memory.mean.shape[:3]
    found = layers.Layers(*(jnp.zeros((1, 1, 1, 1)) for _ in layers.Layers._fields))
    mask, still = jnp.ones((*shape, 1)), jnp.zeros((*shape, 2))
    return found._replace(mask=mask, expected=still, objects=still)


def no_change(objects):
    return jnp.zeros((*objects.shape[:3], 2))


def as_good_as_any(objects):
    return jnp.zeros((*objects.shape[:3], dynamics.BEGINNINGS))


def test_the_motion_of_what_moves_has_the_smallest_loss():
    @jax.jit
    def loss(step, videos, states):
        change = lambda objects: jnp.broadcast_to(step, objects.shape)  # noqa: E731
        learner = hindsight.Learner(all_moving, all_moving, change, as_good_as_any)
        keys = jax.random.split(jax.random.key(0), 2)
        return hindsight._losses_of_objects(learner, keys, videos, states, 1)["dynamics"]

    videos = falling()
    states = states_of(videos)
    of_steps = {
        step: float(loss(jnp.array(step).reshape(1, 1, 1, 2), videos, states))
        for step in ((1.0, 0.0), (0.0, 0.0), (2.0, 0.0), (1.0, 1.0))
    }
    right = of_steps.pop((1.0, 0.0))
    assert all(right < 0.5 * wrong for wrong in of_steps.values()), (right, of_steps)


def test_the_motion_at_a_beginning_has_the_smallest_loss():
    videos = falling()

    @jax.jit
    def loss(probable, videos, states):
        def log_odds(objects):
            of_one = 9.0 * jax.nn.one_hot(probable, dynamics.BEGINNINGS)
            return jnp.broadcast_to(of_one, (*objects.shape[:3], dynamics.BEGINNINGS))

        learner = hindsight.Learner(all_moving, all_moving, no_change, log_odds)
        keys = jax.random.split(jax.random.key(0), 2)
        return hindsight._losses_of_objects(learner, keys, videos, states, 1)["beginning"]

    states = states_of(videos)
    of_motions = [float(loss(motion, videos, states)) for motion in range(dynamics.BEGINNINGS)]
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
