"""What the layers learn by hindsight: which frames are compared, and when the loss is smallest."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from layer_networks import SIZE, clips, drawn, last_of, learner_of, next_state, states_of

from flowvid.conditioning.unet import hindsight, kinds, layers, motion


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
    params = drawn()
    state = last_of(states_of(params, clips(3, 4)))
    keys = jax.random.split(jax.random.key(0), 3)
    after_own_frames = functools.partial(
        hindsight._after_own_frames, functools.partial(next_state, params), None
    )
    seen = jax.tree.map(np.asarray, jax.jit(after_own_frames)(keys, state, np.array([0, 1, 3])))
    for clip, count in enumerate((0, 1, 3)):
        older = state.memory.frames[0][clip]
        np.testing.assert_array_equal(seen.memory.frames[count][clip], older)
        if count:
            assert float(np.abs(seen.memory.frames[0][clip] - older).max()) > 0
    np.testing.assert_array_equal(seen.before.mask[1], state.track.mask[1])
    own = jax.jit(layers.next_frame)(state.memory.frames[0], state.track, None).frame[1]
    np.testing.assert_allclose(seen.memory.frames[0][1], own, atol=6 * hindsight._NOISE)


def two_kinds(displacement):
    """Changes of motion by kind, on the thinned grid: the displacement, and nothing."""
    return jnp.concatenate([kinds.thin(displacement), 0 * kinds.thin(displacement)], axis=-1)


def test_layers_that_are_right_have_a_smaller_loss_than_wrong_ones():
    videos = np.asarray(clips(8, 12))
    states = states_of(drawn(), videos)
    at_4, final = (jax.tree.map(lambda x, t=t: x[:, t], states) for t in (4, 11))
    memory_then, final = at_4.memory, final.memory
    real, after = jnp.asarray(videos[:, 4]), jnp.asarray(videos[:, 5])
    off = jax.jit(hindsight._off)
    moved = np.asarray(off(real, final.ground))
    moves = -np.asarray(jax.jit(motion.motion, static_argnums=3)(real, after, moved, 1))
    still = jnp.zeros((8, SIZE, SIZE, 6))
    right = layers.Layers(
        mask_logit=20 * moved - 10,
        wrong_logit=20 * np.asarray(off(memory_then.ground, final.ground)) - 10,
        is_ground=1 - np.asarray(off(real, memory_then.ground)),
        filled=final.ground,
        track=at_4.track._replace(moved=still, changes=two_kinds(moves)),
    )

    @jax.jit
    def losses(found, frame):
        follows = layers.Next(jnp.asarray(moves), jnp.asarray(moved), frame)
        is_real, first_kind = jnp.ones((8, 1, 1, 1)), jnp.tile(jnp.array([1.0, 0.0]), (8, 1))
        return hindsight._losses(
            found, follows, first_kind, memory_then, final, real, after, is_real, 12, 1
        )

    smallest = losses(right, after)
    assert sum(map(float, smallest.values())) < 1e-3
    wrong = right._replace(
        mask_logit=-right.mask_logit,
        wrong_logit=-right.wrong_logit,
        filled=right.filled + 0.1,
        track=right.track._replace(changes=right.track.changes + 1),
    )
    for name, value in losses(wrong, real).items():
        assert float(value) > 10 * float(smallest[name]) + 1e-3, name


def test_the_motion_of_what_moves_has_the_smallest_loss():
    """Of the kind that a clip is; what other kinds predict does not matter."""
    videos = np.full((2, 8, SIZE, SIZE, 3), -0.4, np.float32)
    texture = np.random.default_rng(0).uniform(0, 0.5, (2, 5, 5, 3))
    for number in range(8):
        videos[:, number, number : number + 5, 4:9] = texture  # goes down by a pixel per frame
    videos = jnp.asarray(videos)
    states = states_of(drawn(), videos)
    track = states.track._replace(
        mask=jnp.ones_like(states.track.mask), moved=jnp.zeros_like(states.track.moved)
    )

    @jax.jit
    def loss(step, kind):
        change = lambda objects: jnp.broadcast_to(step, (*objects.shape[:3], 2, 2))  # noqa: E731
        learner = learner_of(drawn())._replace(change=change)
        keys = jax.random.split(jax.random.key(0), 2)
        return hindsight._loss_of_dynamics(
            learner, kind, keys, videos, states._replace(track=track), 1
        )

    def loss_of(step, kind):
        steps = jnp.array([(1.0, 0.0), step] if kind else [step, (1.0, 0.0)])
        return float(loss(steps, jnp.tile(jnp.eye(2)[kind], (2, 1))))

    for kind in (0, 1):
        right = loss_of((1.0, 0.0), kind)
        wrong = [loss_of(step, kind) for step in ((0.0, 0.0), (2.0, 0.0), (1.0, 1.0))]
        assert right < 0.5 * min(wrong), (right, wrong)
    assert loss_of((9.0, 9.0), 0) > 2 * right


def test_the_mean_over_devices_is_the_loss_of_the_whole_batch():
    videos, params = np.asarray(clips(4, 6)), drawn()
    keys = jax.random.split(jax.random.key(4), 4)
    states = jax.tree.map(np.asarray, states_of(params, videos))
    log_prior = jnp.log(jnp.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.7, 0.3]]))

    @jax.jit
    def loss(log_prior, *of_clips):
        return hindsight.hindsight_loss(learner_of(params, log_prior), *of_clips, 1)[0]

    whole = (log_prior, keys, videos, states)
    halves = [jax.tree.map(lambda x, at=at: x[at], whole) for at in (slice(0, 2), slice(2, 4))]
    of_halves = [float(loss(*half)) for half in halves]
    assert float(loss(*whole)) == pytest.approx(np.mean(of_halves), rel=1e-5)


def test_too_short_videos_have_no_loss():
    videos = clips(2, 1)
    loss, logs = hindsight.hindsight_loss(
        learner_of(drawn()),
        jax.random.split(jax.random.key(0), 2),
        videos,
        states_of(drawn(), videos),
        1,
    )
    assert float(loss) == 0
    assert logs == {}


def test_training_parts_what_moves_from_the_ground():
    videos, held_out = clips(64, 10), clips(16, 10, seed=1)
    params = drawn()
    optimiser = optax.adam(1e-2)

    @jax.jit
    def step(params, opt_state, number):
        key = jax.random.fold_in(jax.random.key(2), number)
        chosen, key = jax.random.split(key)
        ours = videos[jax.random.choice(chosen, 64, (16,), replace=False)]
        states = states_of(params, ours)

        def loss(params):
            keys = jax.random.split(key, 16)
            return hindsight.hindsight_loss(learner_of(params), keys, ours, states, 1)

        gradients, logs = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optimiser.update(gradients, opt_state)
        return optax.apply_updates(params, updates), opt_state, logs

    opt_state = optimiser.init(params)
    for number in range(60):
        params, opt_state, logs = step(params, opt_state, number)
    assert set(logs) == {
        f"layers/{n}" for n in ("mask", "memory", "ground", "next_frame", "motion", "dynamics")
    }

    seen = last_of(states_of(params, held_out[:, :4]))
    last = seen.memory.frames[0]
    found = jax.jit(layers.next_frame)(last, seen.track, None).frame
    after = np.asarray(held_out)[:, 4]
    error, of_last = (float(np.mean((x - after) ** 2)) for x in (found, last))
    assert error < 0.3 * of_last
