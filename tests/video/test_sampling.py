"""Sampling: reproducible, the same by any road, and honest about what is not finite."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import DIMS

import flowvid
from flowvid import random_keys
from flowvid.config.making import preset_config
from flowvid.errors import ConfigError, DataError
from flowvid.evaluation import scoring
from flowvid.parallel.devices import replicate
from flowvid.training import loop
from flowvid.video import sampling, tail
from flowvid.video.build import Drawing
from flowvid.video.pixels import bits_per_dim

pytest_plugins = ["system_fixtures"]

HOT = Drawing(jnp.float32(1), None)


@pytest.fixture(scope="module")
def model(run_of):
    return flowvid.load(run_of("state_label"))


@pytest.fixture(scope="module")
def clips(tiny):
    """Five real clips [5, 5, 16, 16, 3] and their labels."""
    validation = loop.prepare(tiny())[2]
    items = [validation[index] for index in range(5)]
    return np.stack([i["video"] for i in items]), np.array([i["label"] for i in items])


@pytest.fixture(scope="module")
def generated(model):
    return model.sample(3, num_frames=4)


# From nothing.


def test_videos_have_the_wanted_shape_and_are_finite(generated):
    assert generated.videos.shape == (3, 4, 16, 16, 3)
    assert generated.videos.dtype == np.uint8
    assert generated.finite.tolist() == [True, True, True]
    # The middles of the 5-bit bins, most of them in use: neither black nor saturated.
    assert (generated.videos % 8 == 4).all()
    assert len(np.unique(generated.videos)) > 16


def test_the_seed_decides(model, generated):
    again = model.sample(3, num_frames=4, seed=0).videos
    np.testing.assert_array_equal(again, generated.videos)
    other = model.sample(3, num_frames=4, seed=1).videos
    assert (other != generated.videos).mean(axis=(2, 3, 4)).min() > 0.5


def test_the_first_videos_do_not_depend_on_how_many_there_are(model, generated):
    fewer = model.sample(2, num_frames=4)
    assert (fewer.videos == generated.videos[:2]).mean() > 0.99  # but for rounding
    assert (generated.videos[0] != generated.videos[1]).mean() > 0.5


def test_without_temperature_there_is_no_chance(model, generated):
    cold = [model.sample(3, num_frames=4, temperature=0.0, seed=s).videos for s in (0, 1)]
    np.testing.assert_array_equal(*cold)
    assert (cold[0] != generated.videos).mean() > 0.5


@pytest.mark.parametrize(
    ("fields", "head", "tail"),
    [
        ({"preset": "small"}, [0.6, 0.6, 1.0], [0.4]),
        ({"preset": "small", "head_levels": 1}, [0.6, 1.0], [0.4]),
        ({"preset": "footage_small"}, [0.6, 0.6, 0.6, 1.0], [0.4]),
        ({"preset": "paper"}, [1.0], [1.0]),
    ],
)
def test_temperatures_by_default_are_those_of_the_flow(fields, head, tail):
    how = sampling.drawings(preset_config(**fields), None, None)
    np.testing.assert_array_equal(how.head.temperature, np.float32(head))
    np.testing.assert_array_equal(how.tail.temperature, np.float32(tail))
    how = sampling.drawings(preset_config(**fields), [0.5, 0.7], None)
    for drawing in how:
        np.testing.assert_array_equal(drawing.temperature, np.float32([0.5, 0.7]))


def test_labels_take_turns_unless_one_is_given(model):
    assert model.turns(9) == [*model.label_names, model.label_names[0]]
    turns = model.sample(3, num_frames=4, temperature=0.0).videos
    second = model.sample(3, model.label_names[1], num_frames=4, temperature=0.0).videos
    np.testing.assert_array_equal(second[1], turns[1])
    np.testing.assert_array_equal(second[0], second[1])
    louder = jax.tree.map(lambda x: x, model.params)  # images that few steps cannot have learned
    louder["head"]["context"]["labels"]["params"]["images"] *= 30
    loud = dataclasses.replace(model, params=louder)
    first, second = (loud.sample(1, name, num_frames=1).videos for name in model.label_names[:2])
    assert (first != second).any()


# Continuing.


def test_continuing_a_generated_video_gives_it_again(model, generated):
    continued = model.sample(first_frames=generated.videos[:, :2], num_frames=4)
    np.testing.assert_array_equal(continued.videos[:, :2], generated.videos[:, :2])
    assert (continued.videos == generated.videos).mean() > 0.99  # but for rounding
    other = model.sample(first_frames=generated.videos[:, :2], num_frames=4, seed=1)
    assert (other.videos[:, 2:] != generated.videos[:, 2:]).mean() > 0.5


def test_given_frames_come_back_as_they_were(model, clips):
    given = clips[0][:3, :2]
    assert (given % 8 != 4).any()  # sampled frames are coarser: these are copied, not put on a grid
    samples = model.sample(first_frames=given, num_frames=4)
    np.testing.assert_array_equal(samples.videos[:, :2], given)
    assert samples.finite.all()


def test_continuing_is_the_tail_step_by_step(model, clips):
    """The state has seen all given frames; each new one is put on the grid before the next."""
    config, params, given = model.config, model.params["tail"], clips[0][:3, :2]
    grid = lambda pixels: jnp.asarray(pixels // 8, jnp.float32) / 32 - 0.5  # noqa: E731
    see = jax.jit(lambda state, frame: tail.next_state(config, params, state, frame))
    labels = jnp.zeros(3, jnp.int32)

    @jax.jit
    def draw(keys, previous, state):
        seen = tail.conditioning(config, previous, state, labels)
        return tail.sample(config, params, keys, seen, HOT)

    state = jnp.zeros((3, 16, 16, config.context_settings.state_size))
    for frame in (0, 1):
        state = see(state, grid(given[:, frame]))
    previous, frames = grid(given[:, 1]), []
    for frame in (2, 3):
        fold, key = jax.random.fold_in, random_keys.stream_key(0, random_keys.Stream.SAMPLES)
        keys = jnp.stack([fold(fold(key, video), frame) for video in range(3)])
        x = draw(keys, previous, state)
        frames.append(np.clip(np.floor((np.asarray(x) + 0.5) * 32), 0, 31).astype(np.uint8) * 8 + 4)
        previous = grid(frames[-1])
        state = see(state, previous)
    samples = model.sample(first_frames=given, num_frames=4)
    assert (samples.videos[:, 2:] == np.stack(frames, axis=1)).mean() > 0.99  # but for rounding


# What is not finite.


def nan_params(params):
    """The same model with one NaN, in the last prior's mean."""
    last = params["flow"]["last_prior"]
    bad = last | {"mean": last["mean"].at[0].set(jnp.nan)}
    return params | {"flow": params["flow"] | {"last_prior": bad}}


@pytest.mark.parametrize("part", ["head", "tail"])
def test_videos_that_are_not_finite_are_reported(model, part):
    params = model.params | {part: nan_params(model.params[part])}
    keys, labels = random_keys.video_keys(0, 3), jnp.zeros(3, jnp.int32)
    how = sampling.Drawings(HOT, HOT)
    samples = sampling.collected(sampling.frames(model.config, params, keys, labels, how, 4))
    assert not samples.finite.any()


def test_each_video_is_reported_on_its_own(model):
    context = model.params["head"]["context"]
    images = context["labels"]["params"]["images"]
    bad = {"labels": {"params": {"images": images.at[1].set(jnp.nan)}}}
    params = model.params | {"head": model.params["head"] | {"context": context | bad}}
    keys, labels = random_keys.video_keys(0, 3), jnp.array([0, 1, 2], jnp.int32)
    how = sampling.Drawings(HOT, HOT)
    samples = sampling.collected(sampling.frames(model.config, params, keys, labels, how, 4))
    assert samples.finite.tolist() == [True, False, True]


# The model as an object.


def test_load_gives_the_newest_checkpoint(model, run_of):
    assert (model.step, model.config.variant) == (4, "state_label")
    assert len(model.label_names) == model.config.num_labels == 8
    assert set(model.params) == {"head", "tail"}
    with pytest.raises(AttributeError, match="no attribute 'unload'"):
        flowvid.unload  # noqa: B018


def test_log_prob_is_the_evaluation_in_nats(model, clips, tiny):
    videos, labels = clips
    log_prob = model.log_prob(videos[:4], labels[:4])
    assert log_prob.shape == (4, 5)
    scores = scoring.score(
        scoring.evaluator(model.config, model.config.metric),
        replicate(model.params),
        scoring.Noise(0),
        loop.prepare(tiny())[2],
        4,
        4,
        "scoring",
    )
    bits = np.concatenate([scores.head[:, None], scores.tail], axis=1)
    np.testing.assert_allclose(log_prob, (5 - bits) * DIMS * math.log(2), rtol=1e-4)
    back = bits_per_dim(jnp.asarray(log_prob), DIMS, model.config.metric)
    np.testing.assert_allclose(back, bits, rtol=1e-4)
    assert (model.log_prob(videos[:4], labels[:4], seed=1) != log_prob).all()


def test_a_first_frame_alone_is_that_of_a_video(model, clips, generated):
    videos, labels = clips
    alone = model.log_prob(videos[:4, :1], labels[:4])
    assert alone.shape == (4, 1)
    np.testing.assert_allclose(alone, model.log_prob(videos[:4], labels[:4])[:, :1], rtol=1e-5)
    samples = model.sample(3, num_frames=1)
    assert samples.videos.shape == (3, 1, 16, 16, 3)
    assert samples.finite.all()
    assert (samples.videos == generated.videos[:, :1]).mean() > 0.99  # but for rounding


def test_the_label_conditions_the_first_frame_alone(model, clips):
    videos, labels = clips
    right, wrong = (model.log_prob(videos[:4], (labels[:4] + shift) % 8) for shift in (0, 1))
    assert (right[:, 0] != wrong[:, 0]).all()
    np.testing.assert_array_equal(right[:, 1:], wrong[:, 1:])


def test_what_cannot_be_scored_is_refused(model, clips):
    with pytest.raises(
        ConfigError, match=r"give \d+ of them, one per video, whole numbers from 0 to 7"
    ):
        model.log_prob(clips[0])
    for labels in (clips[1][:1], clips[1] + 8, clips[1] - 8, clips[1] + 0.0, list("labels")):
        with pytest.raises(ConfigError, match="one per video, whole numbers from 0 to 7"):
            model.log_prob(clips[0], labels)
    with pytest.raises(ConfigError, match="frames are 8x16x3, the model's are 16x16x3: resize"):
        model.log_prob(clips[0][:, :, :8], clips[1])


BAD_FRAMES = {
    "floats": (
        lambda frames: frames / 255,
        r"are float64 \[\d+, 2, 16, 16, 3\], the model takes u",
    ),
    "signed": (lambda frames: frames.astype(np.int32), "are int32 .*: convert them, with black 0"),
    "a video alone": (
        lambda frames: frames[0],
        r"uint8 \[2, 16, 16, 3\], the model takes uint8 \[v",
    ),
    "numbers": (lambda frames: [0, 1], r"are int64 \[2\], the model takes uint8"),
    "no video": (lambda frames: frames[:0], r"\[0, 2, 16, 16, 3\]: give at least 1 video of 1"),
    "no frame": (lambda frames: frames[:, :0], r"0, 16, 16, 3\]: give at least 1 video of 1 frame"),
    "another size": (lambda frames: frames[:, :, :8], "frames are 8x16x3, the model's are 16x16x3"),
    "grey": (lambda frames: frames[..., :1], "frames are 16x16x1, the model's are 16x16x3: resize"),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_frames_that_the_model_cannot_take_are_refused(model, clips, case):
    change, message = BAD_FRAMES[case]
    frames = change(clips[0][:, :2])
    with pytest.raises(ConfigError, match=message):
        model.log_prob(frames, clips[1])
    with pytest.raises(ConfigError, match=message):
        model.sample(first_frames=frames)


def test_what_cannot_be_sampled_is_refused(model, clips):
    nearest = "bounce" if "bounce" in model.label_names else model.label_names[0]
    with pytest.raises(DataError, match=re.escape(f"'{nearest}s'; the nearest of 8: {nearest}, ")):
        model.sample(2, nearest + "s")
    with pytest.raises(ConfigError, match="frames are 8x16x3, the model's are 16x16x3: resize"):
        model.sample(first_frames=clips[0][:, :2, :8])
    with pytest.raises(ConfigError, match="2 frames are wanted and 2 given: ask for more"):
        model.sample(first_frames=clips[0][:, :2], num_frames=2)
