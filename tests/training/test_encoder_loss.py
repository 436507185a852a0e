"""The loss of a context encoder itself, beside bits per dimension."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_near
from tiny_models import MIXTURE_SIZES

from flowvid.config.making import preset_config
from flowvid.training import objectives
from flowvid.video import joint
from flowvid.video.frames import Batch

FIELDS = MIXTURE_SIZES | {
    "variant": "state",
    "image_size": 8,
    "num_frames": 6,
    "tail_frames": 2,
    "num_labels": 2,
}


@pytest.fixture(scope="module")
def batch():
    """Four clips of a square that moves."""
    video = np.full((4, 6, 8, 8, 3), 40, np.uint8)
    for clip, frames in enumerate(video):
        for time, frame in enumerate(frames):
            frame[clip : clip + 3, time : time + 3] = 160 + 20 * clip
    index = jnp.arange(4)
    return Batch(jnp.asarray(video), index % 2, index.astype(jnp.uint32))


@pytest.fixture(scope="module")
def params(batch):
    config = preset_config("small", **FIELDS)
    drawn = jax.jit(lambda batch: joint.init_params(config, batch)["tail"])(batch)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + np.float32(0.02 * rng.normal(size=x.shape)), drawn)


@functools.cache
def losses_and_gradients(**changes):
    config = preset_config("small", **FIELDS | changes)

    def loss(params, batch):
        return objectives.tail_loss(config, params, batch, 3)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def test_it_is_added_to_the_loss_and_not_to_the_bits(params, batch):
    (loss, logs), gradients = losses_and_gradients()(params, batch)
    parts = [float(value) for name, value in logs.items() if name.startswith("layers/")]
    assert len(parts) == 7
    assert min(parts) > 0
    assert float(loss - logs["bits_per_dim"]) == pytest.approx(0.7 * sum(parts), rel=1e-5)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradients["context"]["layers"]))


def test_chunks_and_rebuilt_activations_change_nothing(params, batch):
    whole = losses_and_gradients()(params, batch)
    other = losses_and_gradients(tail_chunk=3, backprop="reversible")(params, batch)
    assert_near(other, whole, 2e-5)
