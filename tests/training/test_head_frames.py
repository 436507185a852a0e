"""Which frames the head is trained on: the first ones, or any."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from tiny_models import BATCH, FRAMES, tiny

from flowvid import random_keys
from flowvid.config.metrics import METRICS
from flowvid.flows.bijectors import logistic_mixture
from flowvid.training import objectives
from flowvid.video.frames import any_frames

KEYS = random_keys.keys_of_frames(0, random_keys.TRAINING, 0, jnp.arange(BATCH, dtype=jnp.uint32))

pytest_plugins = ["tiny_models"]


def test_any_frame_of_each_clip_is_drawn(batch):
    video = jnp.broadcast_to(
        jnp.arange(FRAMES, dtype=jnp.uint8)[None, :, None, None, None], batch.video.shape
    )
    numbered = batch._replace(
        video=video + 10 * jnp.arange(BATCH, dtype=jnp.uint8)[:, None, None, None, None]
    )
    counts, draw = np.zeros((BATCH, FRAMES)), jax.jit(any_frames, static_argnums=(3, 4))
    for step in range(100):
        choice = jax.random.split(jax.random.key(step), BATCH)
        drawn = draw(KEYS, choice, numbered, METRICS["8-bit"], 2)
        assert drawn.shape == (BATCH, 2, *video.shape[2:])
        levels = np.asarray(logistic_mixture.bins_of(drawn[..., 0, 0, 0], 256)).astype(int)
        clip, frame = np.divmod(levels, 10)
        np.testing.assert_array_equal(clip, np.arange(BATCH)[:, None] + np.zeros((1, 2)))
        assert np.all(frame[:, 0] != frame[:, 1])
        counts[clip, frame] += 1
    assert counts.min() >= 20


def test_the_head_sees_later_frames_if_it_is_asked_to(batch, params_of):
    params = params_of("state_label")["head"]
    others = batch._replace(video=batch.video.at[:, 1:].set(0))
    for frames, is_same in (("first", True), ("any", False)):
        config = tiny("state_label", head_frames=frames)
        loss = jax.jit(functools.partial(objectives.head_loss, config))
        of_steps = [
            [float(loss(params, clips, step)[0]) for step in range(3)] for clips in (batch, others)
        ]
        assert (of_steps[0] == of_steps[1]) == is_same
