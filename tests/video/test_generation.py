"""Sampling on the device, all frames in one program, against head and tail called one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import drawn_params

from flowvid import random_keys
from flowvid.config.making import preset_config
from flowvid.video import head, joint, sampling, tail
from flowvid.video.build import Drawing
from flowvid.video.frames import Batch
from flowvid.video.pixels import to_grid, to_pixels

VIDEOS, FRAMES, LABELS = 3, 5, 4
ONE = Drawing(jnp.float32(1), None)
CONFIG = preset_config(
    "paper_small",
    variant="state_label",
    coupling="affine",
    levels=2,
    head_steps=2,
    tail_steps=2,
    width=8,
    state_size=4,
    image_size=8,
    num_frames=FRAMES,
    tail_frames=None,
    num_labels=LABELS,
)


@pytest.fixture(scope="module")
def params():
    fields = ((1, FRAMES, 8, 8, 3), np.uint8), ((1,), np.int32), ((1,), np.uint32)
    batch = Batch(*(jax.ShapeDtypeStruct(*field) for field in fields))
    return drawn_params(jax.eval_shape(functools.partial(joint.init_params, CONFIG), batch))


def videos_of_a_loop(params, keys, labels):
    """Every frame a call of its own, with parameters as they are trained."""
    first = jax.jit(functools.partial(head.sample, CONFIG))
    next_frame = jax.jit(functools.partial(tail.sample, CONFIG))
    see = jax.jit(functools.partial(tail.next_state, CONFIG, params["tail"]))
    x = first(params["head"], random_keys.frame_keys(keys, 0), labels, ONE)
    frames = [to_pixels(x, CONFIG.metric)]
    carried = jnp.zeros((VIDEOS, 8, 8, 4))
    for number in range(1, FRAMES):
        previous = to_grid(frames[-1], CONFIG.metric)
        carried = see(carried, previous)
        keys_of_frame = random_keys.frame_keys(keys, number)
        seen = tail.conditioning(CONFIG, previous, carried, labels)
        x = next_frame(params["tail"], keys_of_frame, seen, ONE)
        frames.append(to_pixels(x, CONFIG.metric))
    return np.stack(frames, axis=1)


def test_generated_videos_are_those_of_a_loop(params):
    keys, labels = random_keys.video_keys(0, VIDEOS), jnp.array([2, 0, 3], jnp.int32)
    found = sampling.generate(CONFIG, params, keys, labels, FRAMES, sampling.Drawings(ONE, ONE))
    assert np.all(found.finite)
    expected = videos_of_a_loop(params, keys, labels)
    # Rounding may move a value into the next bin of 8 grey levels.
    apart = np.abs(np.int32(found.videos) - np.int32(expected))
    assert apart.max() <= 8
    assert np.mean(apart > 0) < 0.01
    assert np.mean(expected[:, 1:] != expected[:, :-1]) > 0.5


def sub_jaxprs(equation):
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item


def products_of_matrices(jaxpr, loops=0):
    """[loops around it] of each product of square matrices, one for all pixels: of 1x1 inverses."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            shapes = {tuple(v.aval.shape[-2:]) for v in equation.invars}
            if shapes in ({(12, 12)}, {(24, 24)}):
                found.append(loops)
        for inner in sub_jaxprs(equation):
            found += products_of_matrices(inner, loops + (equation.primitive.name == "scan"))
    return found


def test_1x1_convolutions_are_inverted_once_for_all_frames(params, monkeypatch):
    given = jnp.zeros((VIDEOS, 2, 8, 8, 3), jnp.uint8)

    def loops_around_products():
        def continued(params, keys):
            return sampling.continue_from.__wrapped__(
                CONFIG, params, keys, given, jnp.zeros(VIDEOS, int), FRAMES - 2, ONE
            )

        made = jax.make_jaxpr(continued)(params, random_keys.video_keys(0, VIDEOS))
        return products_of_matrices(made.jaxpr)

    # Several for each of the two levels, all steps at once, before the loop over frames.
    assert len(loops_around_products()) >= 2
    assert set(loops_around_products()) == {0}
    # Without `prepare` they are in it, which is to say that they would have been found.
    monkeypatch.setattr(tail, "prepare", lambda config, params: params)
    assert max(loops_around_products()) >= 1
