"""Reversible steps and chunks of the tail's frames: the same gradients, in less memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_near, drawn_params

from flowvid import random_keys
from flowvid.config.making import preset_config
from flowvid.flows.bijectors import repeat
from flowvid.flows.glow.flow import flow_step
from flowvid.training import objectives
from flowvid.video import joint, tail
from flowvid.video.frames import Batch, tail_frames

BATCH, FRAMES, SIZE = 2, 5, 8
MANY = 1000  # more frames than there are


def config_of(**changes):
    sizes = {
        "levels": 2,
        "head_steps": 1,
        "tail_steps": 2,
        "width": 8,
        "state_size": 4,
        "image_size": SIZE,
        "num_frames": FRAMES,
        "tail_frames": None,
        "tail_chunk": MANY,
    }
    return preset_config("paper_small", variant="state", **sizes | changes)


def batch_of(config, batch=BATCH):
    video = np.random.default_rng(0).integers(
        0, 256, (batch, config.num_frames, *config.image_size, 3), np.uint8
    )
    fields = (video, np.zeros(batch, np.int32), np.arange(batch, dtype=np.uint32))
    return Batch(*map(jnp.asarray, fields))


@functools.cache
def tail_params():
    init = functools.partial(joint.init_params, config_of())
    return drawn_params(jax.eval_shape(init, batch_of(config_of()))["tail"])


def value_and_gradients(config):
    def loss(params, batch):
        return objectives.tail_loss(config, params, batch, 3)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@functools.cache
def at_once():
    return value_and_gradients(config_of())(tail_params(), batch_of(config_of()))


# Of the 8 frames of two clips; 3 does not divide them.
@pytest.mark.parametrize(("backprop", "tail_chunk"), [("stored", 3), ("reversible", 1)])
def test_the_tails_step_is_that_of_all_frames_at_once(backprop, tail_chunk):
    config = config_of(backprop=backprop, tail_chunk=tail_chunk)
    found = value_and_gradients(config)(tail_params(), batch_of(config))
    assert_near(found, at_once(), 1e-4)
    # So that what flows through the states and the pyramid has been compared, too.
    gradients = at_once()[1]
    assert set(gradients["context"]) == {"pyramid", "processor"}
    assert all(np.any(g) for g in jax.tree.leaves(gradients["context"]))


def test_log_prob_does_not_depend_on_the_chunks():
    config = config_of()
    batch = batch_of(config)
    keys = random_keys.keys_of_frames(0, random_keys.TRAINING, 0, batch.example)
    frames = tail_frames(keys, batch, config.metric)
    few, all_at_once = (
        jax.jit(functools.partial(tail.log_prob, config_of(tail_chunk=n)))(tail_params(), frames)
        for n in (3, MANY)
    )
    assert few.log_prob.shape == (BATCH, FRAMES - 1)
    assert len(np.unique(few.log_prob)) == BATCH * (FRAMES - 1)
    np.testing.assert_allclose(few.log_det, all_at_once.log_det, rtol=1e-5)
    np.testing.assert_allclose(few.log_prior, all_at_once.log_prior, rtol=1e-5)


def test_as_many_frames_at_once_as_were_asked_for_or_fit():
    assert tail.frames_at_once(config_of(tail_chunk=7)) == 7
    stored, reversible = (
        tail.frames_at_once(config_of(tail_chunk=None, tail_steps=8, backprop=backprop))
        for backprop in ("stored", "reversible")
    )
    assert 1 < stored < reversible
    huge = {"image_size": 1024, "width": 4096, "tail_steps": 64}
    assert tail.frames_at_once(config_of(tail_chunk=None, **huge)) == 1
    paper = preset_config("paper", variant="state")
    assert paper.tail_chunk is None
    assert 1 < tail.frames_at_once(paper) < paper.batch_size * (paper.num_frames - 1)


# Memory, as XLA plans it: without arguments and results (which the gradients are).


def temporary_bytes(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def bytes_of_steps(n, reversible):
    flow = repeat(flow_step(32, "additive", data_dependent=True), n, reversible)
    x = jax.ShapeDtypeStruct((16, 16, 16, 12), jnp.float32)

    def loss(params, x):
        y, log_det = flow.forward(params, x, None)
        return jnp.sum(y**2) - jnp.sum(log_det)

    params = jax.eval_shape(flow.init, jax.random.key(0), x, None)
    return temporary_bytes(jax.value_and_grad(loss), params, x)


def test_memory_grows_with_stored_steps_and_not_with_reversible_ones():
    assert bytes_of_steps(32, reversible=False) > 3 * bytes_of_steps(4, reversible=False)
    # What it does grow by is copies of the 32 steps' parameters, of which images are independent.
    assert bytes_of_steps(32, reversible=True) < 1.1 * bytes_of_steps(4, reversible=True)


def bytes_of_tail(num_frames, tail_chunk):
    config = preset_config(
        "paper_small",
        levels=1,
        tail_steps=2,
        width=64,
        image_size=16,
        num_frames=num_frames,
        tail_frames=None,
        tail_chunk=tail_chunk,
    )

    def loss(params, batch):
        return objectives.tail_loss(config, params, batch, 0)

    batch = batch_of(config)
    params = jax.eval_shape(functools.partial(joint.init_params, config), batch)["tail"]
    return temporary_bytes(jax.value_and_grad(loss, has_aux=True), params, batch)


def test_memory_grows_little_with_the_frames_in_chunks_of_the_tail():
    in_chunks = [bytes_of_tail(num_frames, 4) for num_frames in (5, 17)]
    # It grows by the frames themselves, which lie there together.
    assert in_chunks[1] < 1.25 * in_chunks[0]
    assert bytes_of_tail(17, MANY) > 4 * in_chunks[1]
