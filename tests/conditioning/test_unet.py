"""The U-Net encoder: what its memory keeps, where motion leads, and what each variant sees."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowvid.conditioning.protocol import Conditioning, EncoderOptions
from flowvid.conditioning.sees import Sees
from flowvid.conditioning.unet import memory, motion, network
from flowvid.conditioning.unet.settings import UnetSettings
from flowvid.config.schema import preset_config
from flowvid.errors import ConfigError

SIZE, LEVELS = 8, 2
NOTHING, PREVIOUS = Sees(), Sees(previous=True)
STATE, EVERYTHING = Sees(previous=True, state=True), Sees(True, True, True)


def frame(value):
    return jnp.full((1, 2, 2, 3), value, jnp.float32)


def remembered(values):
    found = memory.first_memory(frame(0.0))
    for value in values:
        found = memory.next_memory(found, frame(value))
    return found


def test_memory_averages_noise_and_starts_again_where_a_pixel_changes():
    found = remembered([0.01, 0.03, 0.02])
    np.testing.assert_allclose(found.mean, frame(0.02), rtol=1e-6)
    assert float(found.mean_count.max()) == 3
    found = remembered([0.01, 0.03, 0.02, 0.4])
    np.testing.assert_allclose(found.mean, frame(0.4), rtol=1e-6)
    assert float(found.mean_count.max()) == 1
    np.testing.assert_array_equal(found.last, frame(0.4))
    np.testing.assert_array_equal(found.before, frame(0.02))
    np.testing.assert_array_equal(found.before_that, frame(0.03))


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
    assert float(memory.next_memory(found, red).mean_count.max()) == 1


def scene(row, column):
    """A faintly textured ground with a bright 6x6 square at a place."""
    ground = np.random.default_rng(0).uniform(-0.42, -0.38, (1, 20, 20, 3))
    ground[:, row : row + 6, column : column + 6] = [0.4, 0.3, 0.2]
    return jnp.asarray(ground, jnp.float32)


@pytest.mark.parametrize("step", [(0, 0), (1, 0), (0, -2), (2, 1), (-3, 3)])
def test_things_move_on_as_they_did(step):
    before, last, after = (scene(7 + t * step[0], 7 + t * step[1]) for t in (-1, 0, 1))
    found, displacement = jax.jit(motion.moved_on)(last, before)
    square = np.asarray(after[..., 0] > 0)
    error, of_last = (float(jnp.abs(guess - after)[square].mean()) for guess in (found, last))
    assert error < max(0.25 * of_last, 1e-3)
    np.testing.assert_allclose(displacement[0, 9:11, 9:11], np.tile(step, (2, 2, 1)), atol=0.05)
    np.testing.assert_allclose(displacement[0, 0, 0], 0, atol=0.05)  # a corner of the ground


def test_half_pixels_are_interpolated():
    edge = jnp.zeros((1, 20, 20, 3)).at[:, :, 8:14].set(0.3)
    half = jnp.zeros((1, 20, 20, 3)).at[:, :, 9:14].set(0.3).at[:, :, (8, 14)].set(0.15)
    _, displacement = jax.jit(motion.moved_on)(half, edge)
    np.testing.assert_allclose(displacement[0, 10, 11], [0, 0.5], atol=0.1)


def encoder_of(sees):
    settings = UnetSettings(unet_width=4, features=5)
    options = EncoderOptions(LEVELS, SIZE, num_labels=3, sees=sees)
    return settings.build(options)


def video(frames, seed=0):
    values = np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, 2, SIZE, SIZE, 3))
    return jnp.asarray(values, jnp.float32)


def seen_after(encoder, sees, frames):
    state = encoder.first_state(frames[0])
    for seen in frames:
        state = encoder.next_state({}, state, seen)
    return Conditioning(
        label=jnp.array([0, 2]) if sees.label else None,
        previous=frames[-1] if sees.previous else None,
        state=state,
    )


def drawn(encoder, frames):
    params = jax.jit(encoder.init)(jax.random.key(0), jnp.array([0, 2]), frames[0])
    assert set(params) <= {"labels", "unet"}
    return params


@pytest.mark.parametrize(
    ("sees", "anchors"), [(PREVIOUS, 1), (STATE, 5), (EVERYTHING, 5), (Sees(label=True), 0)]
)
def test_one_map_a_level_that_begins_with_the_anchors(sees, anchors):
    encoder, frames = encoder_of(sees), video(4)
    seen = seen_after(encoder, sees, frames)
    maps = jax.jit(encoder.encode)(drawn(encoder, frames), seen)
    assert encoder.anchors == anchors
    assert tuple(encoder.channels) == (3 * anchors + 5,) * LEVELS
    assert [m.shape for m in maps] == [
        (2, SIZE >> level, SIZE >> level, 3 * anchors + 5) for level in range(LEVELS)
    ]
    for level, found in enumerate(maps):
        small = frames[-1][:, :: 2**level, :: 2**level]
        if anchors:  # the last frame is the last anchor
            np.testing.assert_array_equal(found[..., 3 * anchors - 3 : 3 * anchors], small)
        assert np.all(np.std(found[..., 3 * anchors :], axis=(0, 1, 2)) > 0)
    table = encoder.label_table(drawn(encoder, frames))
    assert (table is None) == (not sees.label)
    assert encoder.flop((SIZE, SIZE, 3))["unet"] > 0
    assert encoder.diagnostics({}) == {}


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
        encoder, frames = encoder_of(sees), video(4)
        other = frames.at[:-1].set(video(3, seed=1))
        params = drawn(encoder, frames)
        ours, theirs = (
            encoder.encode(params, seen_after(encoder, sees, f)) for f in (frames, other)
        )
        for a, b in zip(ours, theirs, strict=True):
            assert bool(jnp.any(a != b)) == depends


def test_a_state_has_the_same_size_after_any_number_of_frames():
    encoder = encoder_of(STATE)
    shapes = {
        str(jax.tree.map(jnp.shape, seen_after(encoder, STATE, video(count)).state))
        for count in (1, 3, 9)
    }
    assert len(shapes) == 1


def test_every_parameter_has_a_gradient():
    encoder, frames = encoder_of(EVERYTHING), video(3)
    params, seen = drawn(encoder, frames), seen_after(encoder, EVERYTHING, frames)
    loss = lambda params: sum(jnp.sum(m**2) for m in encoder.encode(params, seen))  # noqa: E731
    gradients = jax.jit(jax.grad(loss))(params)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradients))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_widths_grow_with_the_level_up_to_twice():
    assert network.widths(48, 4) == [48, 68, 96, 96]


def test_counted_operations_are_those_of_the_compiled_network():
    unet = network.UNet(width=16, features=8, levels=3)
    x = jnp.zeros((1, 32, 32, 12))
    params = unet.init(jax.random.key(0), x)
    counted = network.flop(32, 32, 12, 16, 8, 3)
    analysed = jax.jit(unet.apply).lower(params, x).compile().cost_analysis()["flops"]
    assert 0.8 < counted / analysed < 1.05


def test_sizes_that_cannot_be_halved_are_refused():
    with pytest.raises(ConfigError, match="must be divisible by 2"):
        preset_config("small", flow="mixture", context="unet", image_size=36)
    assert list(itertools.chain(*(UnetSettings(8, 4).describe(s) for s in (NOTHING, STATE)))) == [
        "previous frame, 3 channels",
        "memory, 2 older frames, motion",
    ]
