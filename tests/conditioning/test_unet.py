"""The U-Net encoder: what its memory keeps, where motion leads, and what each variant sees."""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowvid.conditioning.protocol import Conditioning, EncoderOptions
from flowvid.conditioning.sees import Sees
from flowvid.conditioning.unet import memory, network
from flowvid.conditioning.unet.settings import UnetSettings
from flowvid.config.making import preset_config
from flowvid.errors import ConfigError
from flowvid.flows.scale_and_shift import depends_on_vector
from flowvid.sizes import Size

SIZE, LEVELS = 8, 2
NOTHING, PREVIOUS = Sees(), Sees(previous=True)
STATE, EVERYTHING = Sees(previous=True, state=True), Sees(True, True, True)


def frame(value):
    return jnp.full((1, 2, 2, 3), value, jnp.float32)


# Compiled as a whole: operation by operation, each would be compiled by itself.
next_memory = jax.jit(memory.next_memory)


def remembered(values):
    found = memory.first_memory(frame(0.0))
    for value in values:
        found = next_memory(found, frame(value))
    return found


def test_memory_averages_noise_and_starts_again_where_a_pixel_changes():
    found = remembered([0.01, 0.03, 0.02])
    np.testing.assert_allclose(found.mean, frame(0.02), rtol=1e-6)
    assert float(found.mean_count.max()) == 3
    found = remembered([0.01, 0.03, 0.02, 0.4])
    np.testing.assert_allclose(found.mean, frame(0.4), rtol=1e-6)
    assert float(found.mean_count.max()) == 1
    for seen, value in zip(found.frames, (0.4, 0.02, 0.03, 0.01), strict=True):
        np.testing.assert_array_equal(seen, frame(value))


def test_the_ground_is_known_until_something_else_has_stayed_longer():
    covered = remembered([0.1] * 4 + [0.4] * 3)
    np.testing.assert_allclose(covered.ground, frame(0.1), rtol=1e-6)
    np.testing.assert_allclose(covered.mean, frame(0.4), rtol=1e-6)
    again = remembered([0.1] * 4 + [0.4] * 3 + [0.12])
    np.testing.assert_allclose(again.ground, frame((4 * 0.1 + 0.12) / 5), rtol=1e-6)
    replaced = remembered([0.1] * 4 + [0.4] * 4)
    np.testing.assert_allclose(replaced.ground, frame(0.4), rtol=1e-6)


def test_a_single_changed_channel_is_a_change_and_counts_end():
    found = remembered([0.1] * 40)
    assert float(found.mean_count.max()) == float(found.ground_count.max()) == memory.LONGEST
    red = frame(0.1).at[..., 0].add(1.01 * memory.CHANGED)
    assert float(next_memory(found, red).mean_count.max()) == 1


@functools.cache
def encoder_of(sees):
    settings = UnetSettings(unet_width=4, features=5, layer_width=4, label_width=3)
    options = EncoderOptions(LEVELS, Size(SIZE, SIZE), num_labels=3, sees=sees)
    return settings.build(options)


def video(frames, seed=0):
    values = np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, 2, SIZE, SIZE, 3))
    return jnp.asarray(values, jnp.float32)


class Compiled(NamedTuple):
    """The functions of an encoder, which all tests of it share."""

    init: Any
    next_state: Any
    encode: Any


@functools.cache
def compiled(sees):
    encoder = encoder_of(sees)
    return Compiled(*map(jax.jit, (encoder.init, encoder.next_state, encoder.encode)))


def seen_after(sees, frames):
    state = encoder_of(sees).first_state(frames[0])
    for seen in frames:
        state = compiled(sees).next_state({}, state, seen)
    return Conditioning(
        label=jnp.array([0, 2]) if sees.label else None,
        previous=frames[-1] if sees.previous else None,
        state=state,
    )


def drawn(sees, frames):
    params = compiled(sees).init(jax.random.key(0), jnp.array([0, 2]), frames[0])
    assert set(params) <= {"labels", "layers", "unet"}
    return params


@pytest.mark.parametrize(
    ("sees", "anchors"), [(PREVIOUS, 1), (STATE, 4), (EVERYTHING, 4), (Sees(True, True), 1)]
)
def test_one_map_a_level_that_begins_with_the_anchors(sees, anchors):
    encoder, frames = encoder_of(sees), video(4)
    seen = seen_after(sees, frames)
    maps = compiled(sees).encode(drawn(sees, frames), seen)
    assert encoder.anchors == anchors
    assert tuple(encoder.channels) == (3 * anchors + 5,) * LEVELS
    assert [m.shape for m in maps] == [
        (2, SIZE >> level, SIZE >> level, 3 * anchors + 5) for level in range(LEVELS)
    ]
    for level, found in enumerate(maps):
        small = frames[-1][:, :: 2**level, :: 2**level]
        # The last frame is the last anchor.
        np.testing.assert_array_equal(found[..., 3 * anchors - 3 : 3 * anchors], small)
        assert np.all(np.std(found[..., 3 * anchors :], axis=(0, 1, 2)) > 0)
    table = encoder.label_table(drawn(sees, frames))
    assert (table is None) == (not sees.label)
    assert all(count > 0 for count in encoder.flop((SIZE, SIZE, 3)).values())
    assert encoder.diagnostics({}) == {}


def test_a_label_alone_is_a_vector_and_there_is_one_for_labels_that_are_not_told():
    encoder = encoder_of(Sees(label=True))
    params = jax.jit(encoder.init)(jax.random.key(0), jnp.array([0, 1]), None)
    maps = jax.jit(encoder.encode)(params, Conditioning(label=jnp.array([0, 3, 2, 0])))
    assert [m.shape for m in maps] == [(4, 1, 1, 3)] * LEVELS
    assert tuple(encoder.channels) == (0,) * LEVELS  # it is no map
    np.testing.assert_array_equal(maps[0][0], maps[0][3])
    assert len(np.unique(maps[0].round(6), axis=0)) == 3
    table = encoder.label_table(params)
    assert table.shape == (3, 3)  # labels that are told
    np.testing.assert_array_equal(table[2], maps[1][2, 0, 0])


def test_a_label_changes_what_is_expected_to_come_next():
    """By how things move on, it reaches the first anchor and the features.

    So do gradients of what is seen, but they reach no other parameters of the layers.
    """
    encoder, frames = encoder_of(EVERYTHING), video(4)
    rng = np.random.default_rng(2)
    params = jax.tree.map(
        lambda x: np.asarray(x) + np.asarray(0.1 * rng.normal(size=x.shape), x.dtype),
        drawn(EVERYTHING, frames),
    )
    seen = seen_after(EVERYTHING, frames)
    encode = compiled(EVERYTHING).encode
    ours, theirs = (encode(params, seen._replace(label=jnp.full(2, label)))[0] for label in (0, 1))
    changed = np.any(ours != theirs, axis=(0, 1, 2))
    np.testing.assert_array_equal(changed, [True] * 3 + [False] * 9 + [True] * 5)
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(encoder.encode(params, seen)[0] ** 2)))
    of_layers = gradient(params)["layers"]["params"]
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(of_layers.pop("beginning_by_adam")))
    for path, leaf in jax.tree_util.tree_leaves_with_path(of_layers):
        assert np.any(leaf) == depends_on_vector(path), path


def test_nothing_is_seen_where_the_variant_sees_nothing():
    encoder = encoder_of(NOTHING)
    assert encoder.init(jax.random.key(0), jnp.array([0]), None) == {}
    assert encoder.encode({}, Conditioning()) == (None,) * LEVELS
    assert tuple(encoder.channels) == (0,) * LEVELS
    assert encoder.anchors == 0
    assert encoder.first_state(video(1)[0]) is None
    assert encoder.flop((SIZE, SIZE, 3)) == {}


def test_prev_frame_sees_the_last_frame_alone_and_state_sees_older_ones():
    for sees, depends in ((PREVIOUS, False), (STATE, True)):
        frames = video(4)
        other = frames.at[:-1].set(video(3, seed=1))
        params, encode = drawn(sees, frames), compiled(sees).encode
        ours, theirs = (encode(params, seen_after(sees, f)) for f in (frames, other))
        for a, b in zip(ours, theirs, strict=True):
            assert np.any(a != np.asarray(b)) == depends


def test_a_state_has_the_same_size_after_any_number_of_frames():
    shapes = {
        str(jax.tree.map(jnp.shape, seen_after(STATE, video(count)).state)) for count in (1, 3, 9)
    }
    assert len(shapes) == 1


def test_a_past_is_imagined_for_a_single_frame():
    """One frame before it, in which objects are elsewhere; a video's label and key draw it."""
    encoder, frames = encoder_of(EVERYTHING), video(1)
    rng = np.random.default_rng(2)
    params = jax.tree.map(
        lambda x: np.asarray(x) + np.asarray(0.05 * rng.normal(size=x.shape), x.dtype),
        drawn(EVERYTHING, frames),
    )
    state = seen_after(EVERYTHING, frames).state
    with_past = jax.jit(encoder.with_past)

    def past_of(seed, labels):
        keys = jax.random.split(jax.random.key(seed), 2)
        found = jax.tree.map(np.asarray, with_past(params, keys, state, jnp.array(labels)))
        last, before, *others = found.frames
        np.testing.assert_array_equal(last, frames[0])
        np.testing.assert_array_equal(others, np.zeros((2, *last.shape)))
        expected = next_memory(memory.first_memory(frames[0]), jnp.asarray(before))
        expected = next_memory(expected, jnp.asarray(last))
        np.testing.assert_allclose(found.mean, expected.mean, atol=1e-6)
        return before

    ours = past_of(0, [0, 2])
    assert np.all(np.isfinite(ours))
    assert np.any(ours != frames[0])
    np.testing.assert_array_equal(past_of(0, [0, 2]), ours)
    assert any(np.any(past_of(seed, [0, 2]) != ours) for seed in range(1, 4))
    pairs = [(past_of(seed, [0, 2]), past_of(seed, [1, 2])) for seed in range(20)]
    np.testing.assert_array_equal(*(both[1] for both in pairs[0]))
    assert any(np.any(ours[0] != theirs[0]) for ours, theirs in pairs)


@pytest.mark.parametrize("sees", [NOTHING, PREVIOUS])
def test_without_a_state_there_is_no_past(sees):
    assert encoder_of(sees).with_past is None


def test_every_parameter_has_a_gradient():
    encoder, frames = encoder_of(EVERYTHING), video(3)
    params, seen = drawn(EVERYTHING, frames), seen_after(EVERYTHING, frames)
    rng = np.random.default_rng(2)  # some parameters start at zero
    params = jax.tree.map(
        lambda x: np.asarray(x) + np.asarray(0.05 * rng.normal(size=x.shape), x.dtype), params
    )
    states = jax.tree.map(lambda x: np.stack([x, x, x], axis=1), seen.state)

    def loss(params):
        maps = encoder.encode(params, seen)
        keys = jax.random.split(jax.random.key(0), 2)
        of_layers, _ = encoder.auxiliary_loss(
            params, keys, jnp.moveaxis(frames, 0, 1), states, jnp.array([0, 3])
        )
        return of_layers + sum(jnp.sum(m**2) for m in maps)

    gradients = jax.jit(jax.grad(loss))(params)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradients))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_widths_grow_with_the_level_up_to_twice():
    assert network.widths(48, 4) == [48, 68, 96, 96]


@pytest.mark.parametrize("read", [None, 1])
def test_counted_operations_are_those_of_the_compiled_network(read):
    unet = network.UNet(width=16, features=8, levels=3, read=read)
    x = jnp.zeros((1, 32, 32, 12))
    params = jax.eval_shape(unet.init, jax.random.key(0), x)
    assert len(jax.eval_shape(unet.apply, params, x)) == (read or 3)
    counted = network.flop(unet, 32, 32, 12)
    analysed = jax.jit(unet.apply).lower(params, x).compile().cost_analysis()["flops"]
    assert 0.8 < counted / analysed < 1.05


def test_sizes_that_cannot_be_halved_are_refused():
    with pytest.raises(ConfigError, match="must be divisible by 2"):
        preset_config("small", image_size=36)
    assert list(
        itertools.chain(*(UnetSettings(8, 4, 8, 4).describe(s) for s in (NOTHING, STATE)))
    ) == [
        "previous frame, 3 channels",
        "memory, 3 older frames, layers",
    ]
