"""Sampling frame after frame, against head and tail called one by one; short and long videos."""

import functools
import gc
import itertools

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
HOW = sampling.Drawings(ONE, ONE)
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
    found = sampling.collected(sampling.frames(CONFIG, params, keys, labels, HOW, FRAMES))
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


def has_products_of_matrices(jaxpr):
    """Whether square matrices, one for all pixels, are multiplied: those of 1x1 inverses are."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            shapes = {tuple(v.aval.shape[-2:]) for v in equation.invars}
            if shapes in ({(12, 12)}, {(24, 24)}):
                return True
        if any(map(has_products_of_matrices, sub_jaxprs(equation))):
            return True
    return False


def test_1x1_convolutions_are_inverted_once_for_all_frames(params):
    last = jnp.zeros((VIDEOS, 8, 8, 3))
    state = tail.first_state(CONFIG, last)

    def next_frame(of_tail):
        keys, labels = random_keys.video_keys(0, VIDEOS), jnp.zeros(VIDEOS, int)
        finite = jnp.ones(VIDEOS, bool)
        return sampling._next(CONFIG, of_tail, keys, 1, last, state, finite, labels, ONE)

    of_tail = params["tail"]
    prepared = tail.prepare(CONFIG, of_tail)
    assert not has_products_of_matrices(jax.make_jaxpr(next_frame)(prepared).jaxpr)
    # Of parameters as they are trained, which is to say that they would have been found.
    assert has_products_of_matrices(jax.make_jaxpr(next_frame)(of_tail).jaxpr)


def streamed(params, num_frames=None):
    keys, labels = random_keys.video_keys(0, VIDEOS), jnp.array([2, 0, 3], jnp.int32)
    return sampling.frames(CONFIG, params, keys, labels, HOW, num_frames)


def test_a_short_video_is_the_beginning_of_a_longer_one(params):
    short, long = (sampling.collected(streamed(params, n)).videos for n in (FRAMES, 3 * FRAMES))
    assert long.shape[1] == 3 * FRAMES
    np.testing.assert_array_equal(long[:, :FRAMES], short)
    endless = sampling.collected(itertools.islice(streamed(params), FRAMES)).videos
    np.testing.assert_array_equal(endless, short)


def test_a_continuation_does_not_depend_on_its_length_either(params):
    given = np.random.default_rng(0).integers(0, 256, (VIDEOS, 2, 8, 8, 3), np.uint8)
    keys, labels = random_keys.video_keys(0, VIDEOS), jnp.zeros(VIDEOS, jnp.int32)
    short, long = (
        sampling.collected(sampling.frames(CONFIG, params, keys, labels, HOW, n, given)).videos
        for n in (4, 9)
    )
    np.testing.assert_array_equal(long[:, :4], short)
    np.testing.assert_array_equal(long[:, :2], given)


def test_memory_does_not_grow_with_the_number_of_frames(params):
    """What JAX holds is the parameters, the state and the frame that is drawn ahead."""

    def held(count):
        gc.collect()
        before = {id(array) for array in jax.live_arrays()}
        stream = streamed(params)
        for _ in range(count):
            next(stream)
        gc.collect()
        found = [array for array in jax.live_arrays() if id(array) not in before]
        size = sum(array.nbytes for array in found)
        stream.close()
        return len(found), size

    held(3)  # compiles
    assert held(10) == held(40)
    frame = VIDEOS * 8 * 8 * 3 * 4
    assert held(40)[1] < 20 * frame + sum(x.nbytes for x in jax.tree.leaves(params["tail"]))


def test_the_next_frame_is_drawn_before_it_is_asked_for(params):
    """So that the device does not wait for the host, and draws nothing after the last frame."""
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        original = sampling._next

        def counted(*args):
            drawn.append(int(args[3]))
            return original(*args)

        patch.setattr(sampling, "_next", counted)
        stream = streamed(params, 3)
        next(stream)
        assert drawn == [1]
        next(stream)
        assert drawn == [1, 2]
        next(stream)
        assert next(stream, None) is None
    assert drawn == [1, 2]
