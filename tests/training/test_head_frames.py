"""Which frames the head is trained on: the first ones, or any."""

import jax
import jax.numpy as jnp
import numpy as np
from tiny_models import BATCH, FRAMES, tiny

from flowvid.training import objectives
from flowvid.video.frames import any_frames

pytest_plugins = ["tiny_models"]


def test_any_frame_of_each_clip_is_drawn(batch):
    video = jnp.broadcast_to(jnp.arange(FRAMES)[None, :, None, None, None], batch.video.shape)
    numbered = batch._replace(video=video + 10 * jnp.arange(BATCH)[:, None, None, None, None])
    counts = np.zeros((BATCH, FRAMES))
    for step in range(100):
        drawn = any_frames(jax.random.split(jax.random.key(step), BATCH), numbered)
        assert drawn.video.shape == (BATCH, 1, *video.shape[2:])
        clip, frame = np.divmod(np.asarray(drawn.video[:, 0, 0, 0, 0]), 10)
        np.testing.assert_array_equal(clip, range(BATCH))
        counts[clip, frame] += 1
    assert counts.min() >= 10
    np.testing.assert_array_equal(drawn.label, batch.label)


def test_the_head_sees_later_frames_if_it_is_asked_to(batch, params_of):
    params = params_of("state_label")["head"]
    others = batch._replace(video=batch.video.at[:, 1:].set(0))
    for frames, is_same in (("first", True), ("any", False)):
        config = tiny("state_label", head_frames=frames)
        of_steps = [
            [float(objectives.head_loss(config, params, clips, step)[0]) for step in range(3)]
            for clips in (batch, others)
        ]
        assert (of_steps[0] == of_steps[1]) == is_same
