"""Random keys: no two uses of a seed share one, and no key is both folded and drawn from."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from flowvid import random_keys
from flowvid.config.making import preset_config
from flowvid.random_keys import Stream
from flowvid.video import joint
from flowvid.video.frames import Batch, head_frames, tail_frames

USES = {
    name: getattr(random_keys, name)
    for name in ("INITIALISATION", "TRAINING", "VALIDATION", "EVALUATION", "STABILITY")
}


def words(key):
    return np.asarray(jax.random.key_data(key))


def test_no_two_uses_share_a_stream():
    used = [stream for streams in USES.values() for stream in streams]
    assert len(set(used)) == len(used) == 15
    others = {s for s in Stream if s not in used}
    assert len({s.value for s in Stream}) == len(Stream) == len(used) + len(others)


def test_every_stream_seed_step_and_example_has_a_key_of_its_own():
    examples = jnp.arange(3, dtype=jnp.uint32)
    keys = [
        words(random_keys.example_keys(seed, step, examples, stream))
        for seed, step, stream in itertools.product((0, 1), (0, 1), Stream)
    ]
    keys += [words(random_keys.stream_key(seed, s))[None] for seed in (0, 1) for s in Stream]
    keys += [words(jax.random.key(seed))[None] for seed in (0, 1)]
    joined = np.concatenate(keys)
    assert len(np.unique(joined, axis=0)) == len(joined)


def batch_of(config):
    size, clips = config.image_size, 2
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (clips, config.num_frames, *size, 3), np.uint8)
    zeros = jnp.zeros(clips, jnp.int32)
    return Batch(jnp.asarray(video), zeros, jnp.arange(clips, dtype=jnp.uint32))


def test_the_same_clips_have_other_noise_in_every_use():
    """The first step of training, validation and evaluation saw the noise of the initialisation."""
    config = preset_config("paper_small", image_size=8, levels=1, num_frames=4, tail_frames=2)
    batch, noises = batch_of(config), []
    for streams in USES.values():
        keys = random_keys.keys_of_frames(0, streams, 0, batch.example)
        noises += [
            head_frames(keys, batch, config.metric),
            tail_frames(keys, batch, config.metric).x[:, 0],
        ]
    # Both are the noise of 8x8x3 pixels, of other frames: the part of a bin that was added.
    parts = [np.mod(np.asarray(x, np.float64), 2**-5) for x in noises]
    for one, other in itertools.combinations(parts, 2):
        assert np.mean(one == other) < 0.01


def test_drawing_frames_uses_no_word_of_their_noise():
    """The key that chooses frames was `fold_in(key, 1)` of the noise's key: the same function."""
    batch = batch_of(
        preset_config("paper_small", image_size=8, levels=1, num_frames=4, tail_frames=2)
    )
    keys = random_keys.keys_of_frames(0, random_keys.TRAINING, 5, batch.example)
    for noise, choice in zip(keys.tail, keys.choice, strict=True):
        bits = np.asarray(jax.random.bits(noise, (4096,)))
        assert not np.isin(words(choice), bits).any()
        assert not np.array_equal(words(jax.random.fold_in(noise, 1)), words(choice))


def test_validation_and_evaluation_draw_other_noise():
    config = preset_config("paper_small", image_size=8, levels=1, head_steps=1, tail_steps=1,
                           width=4, num_frames=3, tail_frames=1)  # fmt: skip
    batch = batch_of(config)
    params = jax.jit(functools.partial(joint.init_params, config))(batch)
    bits = jax.jit(functools.partial(joint.eval_step, config, config.metric, 0))
    one, other = (
        bits(params, batch, 0, random_keys.FrameStreams(*np.uint32(streams)))
        for streams in (random_keys.VALIDATION, random_keys.EVALUATION)
    )
    assert np.all(one.head != other.head)
    assert np.all(one.tail != other.tail)
