"""Head and tail: each variant sees what it may and no more, and samples map back to noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import BATCH, FRAMES, LABELS, SIZE, tiny

from flowvid import random_keys
from flowvid.conditioning.protocol import Conditioning
from flowvid.config.variants import VARIANTS
from flowvid.flows.protocol import sample_latents
from flowvid.video import build, head, joint, tail
from flowvid.video.build import Drawing
from flowvid.video.frames import TailFrames, pick, tail_frames
from flowvid.video.pixels import to_grid

pytest_plugins = ["tiny_models"]

LATER = FRAMES - 1  # frames that the tail models

every_variant = pytest.mark.parametrize("variant", VARIANTS)


@pytest.fixture(scope="module")
def frames(batch):
    """Dequantised frames to model and the clean frames before them, [4, 3, 8, 8, 3] each."""
    config = tiny("state")
    keys = random_keys.keys_of_frames(0, random_keys.TRAINING, 0, batch.example)
    return tail_frames(keys, batch, config.metric)


@every_variant
def test_the_tail_sees_its_variants_frames_and_no_others(variant, params_of, frames):
    config, params = tiny(variant), params_of(variant)["tail"]

    @jax.jit
    def log_prob(clean):
        return tail.log_prob(config, params, frames._replace(clean=clean)).log_prob

    given = log_prob(frames.clean)
    assert given.shape == (BATCH, LATER)
    assert np.all(np.isfinite(given))
    sees = VARIANTS[variant].tail
    for earlier in range(LATER):
        changed = log_prob(frames.clean.at[1, earlier].add(1.0)) - given
        expected = np.zeros((BATCH, LATER), bool)
        if sees.previous:
            expected[1, earlier] = True  # the context of the frame after it
        if sees.state:
            expected[1, earlier:] = True  # and of all later ones
        np.testing.assert_array_equal(changed != 0, expected)


@every_variant
def test_the_head_sees_its_label_if_its_variant_does(variant, params_of, batch):
    config, params = tiny(variant), params_of(variant)["head"]
    x = to_grid(batch.video[:, 0], config.metric)
    log_prob = jax.jit(lambda labels: head.log_prob(config, params, x, labels).log_prob)
    given, other = log_prob(batch.label), log_prob((batch.label + 1) % LABELS)
    assert given.shape == (BATCH,)
    assert np.all(np.isfinite(given))
    assert np.all(np.abs(given - other) > 1e-3) == VARIANTS[variant].head.label
    assert np.all(given == other) != VARIANTS[variant].head.label


def test_the_tail_sees_frames_and_states_stepped_by_hand(params_of, frames):
    config, params = tiny("state"), params_of("state")["tail"]
    conditionings, next_state = (
        jax.jit(function, static_argnums=0) for function in (tail.conditionings, tail.next_state)
    )
    seen = conditionings(config, params, frames.clean, frames.labels)
    assert seen.label is None
    np.testing.assert_array_equal(seen.previous, frames.clean)
    assert seen.state.shape == (BATCH, LATER, SIZE, SIZE, 4)
    carried = tail.first_state(config, frames.clean[:, 0])
    np.testing.assert_array_equal(carried, np.zeros((BATCH, SIZE, SIZE, 4)))
    for t in range(LATER):
        carried = next_state(config, params, carried, frames.clean[:, t])
        np.testing.assert_allclose(seen.state[:, t], carried, rtol=1e-4, atol=1e-5)
    # A tail that sees no state carries none.
    assert tail.first_state(tiny("prev_frame"), frames.clean[:, 0]) is None
    assert tail.next_state(tiny("prev_frame"), {"context": {}}, None, frames.clean[:, 0]) is None


def test_picked_frames_have_the_log_prob_of_all_frames(params_of, frames):
    config, params = tiny("state"), params_of("state")["tail"]
    picked = jnp.array([[2, 0], [1, 2], [0, 1], [2, 1]])
    log_prob = jax.jit(lambda frames: tail.log_prob(config, params, frames).log_prob)
    some = log_prob(frames._replace(x=pick(frames.x, picked), picked=picked))
    every = log_prob(frames)
    np.testing.assert_allclose(some, jnp.take_along_axis(every, picked, 1), rtol=1e-5)


def test_picked_frames_initialise(batch):
    config = tiny("state", tail_frames=2)
    params = jax.eval_shape(functools.partial(joint.init_params, config), batch)
    every = jax.eval_shape(functools.partial(joint.init_params, tiny("state")), batch)
    assert params == every


@pytest.mark.parametrize("model", ["head", "tail"])
def test_samples_map_back_to_the_noise_they_were_made_of(model, params_of, batch, frames):
    config = tiny("state_label", coupling="affine")
    params = params_of("state_label", "affine")[model]
    keys, one = jax.random.split(jax.random.key(5), BATCH), Drawing(jnp.asarray(1.0), None)
    flow, encoder = build.flow_of(config, model), build.encoder_of(config, model)
    if model == "head":
        x = jax.jit(functools.partial(head.sample, config))(params, keys, batch.label, one)
        density = jax.jit(head.log_prob, static_argnums=0)(config, params, x, batch.label)
        seen = Conditioning(label=batch.label)
    else:
        previous = frames.clean[:, 0]
        see = jax.jit(tail.next_state, static_argnums=0)
        state = see(config, params, tail.first_state(config, previous), previous)
        seen = tail.conditioning(config, previous, state, batch.label)
        x = jax.jit(functools.partial(tail.sample, config))(params, keys, seen, one)
        one_frame = TailFrames(x[:, None], previous[:, None], None, batch.label)
        density = jax.jit(tail.log_prob, static_argnums=0)(config, params, one_frame)
    assert x.shape == (BATCH, SIZE, SIZE, 3)
    contexts = jax.jit(encoder.encode)(params["context"], seen)
    latents = jax.jit(flow.encode)(params["flow"], x, contexts)
    drawn = sample_latents(keys, flow.latent_shapes((SIZE, SIZE, 3)), one.temperature)
    for found, expected in zip(latents, drawn, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    expected = jax.jit(flow.log_prob)(params["flow"], x, contexts).log_prob
    np.testing.assert_allclose(density.log_prob.reshape(BATCH), expected, rtol=1e-4)


def test_a_head_with_coarse_label_images_sees_squares_of_equal_pixels(params_of, batch):
    coarse = jnp.asarray(np.random.default_rng(0).normal(size=(LABELS, 2, 2, 3)), jnp.float32)
    fine = jnp.repeat(jnp.repeat(coarse, SIZE // 2, axis=1), SIZE // 2, axis=2)
    x = to_grid(batch.video[:, 0], tiny("state").metric)

    @functools.partial(jax.jit, static_argnums=0)
    def log_prob(config, images):
        params = params_of("state_label")["head"]
        labels = {"labels": {"params": {"images": images}}}
        params = params | {"context": params["context"] | labels}
        return head.log_prob(config, params, x, batch.label).log_prob

    small = log_prob(tiny("state_label", label_size=2), coarse)
    np.testing.assert_array_equal(small, log_prob(tiny("state_label"), fine))
    assert (small != log_prob(tiny("state_label"), 0 * fine)).all()


def test_label_images_start_at_their_size_and_scale(batch):
    config = tiny("state_label", label_size=2, label_scale=0.0)

    @jax.jit
    def label_images(batch):
        return joint.init_params(config, batch)["head"]["context"]["labels"]

    (image,) = jax.tree.leaves(label_images(batch))
    np.testing.assert_array_equal(image, np.zeros((LABELS, 2, 2, 3)))


# Keys and frames.


def test_noise_belongs_to_the_example_and_not_to_the_device(batch):
    stream = random_keys.Stream.TRAINING_HEAD
    whole = random_keys.example_keys(1, 7, batch.example, stream)
    parts = [
        random_keys.example_keys(1, 7, part, stream)
        for part in (batch.example[:1], batch.example[1:])
    ]
    data = jax.random.key_data(whole)
    np.testing.assert_array_equal(data, np.concatenate([jax.random.key_data(p) for p in parts]))


def test_drawn_frames_are_distinct_and_come_with_their_indices(batch):
    metric, clips = tiny("state").metric, 64
    many = jax.tree.map(lambda x: jnp.concatenate([x] * (clips // BATCH)), batch)
    many = many._replace(example=jnp.arange(clips, dtype=jnp.uint32))
    keys = random_keys.keys_of_frames(0, random_keys.TRAINING, 0, many.example)
    x, clean, picked, labels = tail_frames(keys, many, metric, drawn=2)
    np.testing.assert_array_equal(labels, many.label)
    assert np.all(picked[:, 0] != picked[:, 1])
    counts = np.bincount(np.ravel(picked), minlength=LATER)
    assert len(counts) == LATER
    assert counts.min() > 128 / LATER / 2  # each frame is as likely as another

    grid = to_grid(many.video, metric)
    np.testing.assert_array_equal(clean, grid[:, :-1])
    noise = x - grid[:, 1:][np.arange(clips)[:, None], picked]
    assert 0 <= float(noise.min()) < float(noise.max()) <= 2**-5
