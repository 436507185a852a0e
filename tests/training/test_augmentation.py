"""Mirrored clips, windows for the tail, and weight decay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import MIXTURE_SIZES

from flowvid.config.making import preset_config
from flowvid.errors import ConfigError
from flowvid.training import augmentation, objectives, train_state
from flowvid.training.cost import step_gflop
from flowvid.video import joint
from flowvid.video.frames import Batch

CLIPS, SIZE = 64, 16
SIZES = {"image_size": (SIZE, 2 * SIZE), "levels": 2}


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (CLIPS, 3, SIZE, 2 * SIZE, 3), np.uint8)
    return Batch(jnp.asarray(video), jnp.zeros(CLIPS, jnp.int32), jnp.arange(CLIPS, dtype="uint32"))


def config_of(**changes):
    return preset_config("small", **{"variant": "state"} | SIZES | changes)


def test_half_of_the_clips_are_mirrored_as_a_whole(batch):
    config = config_of(augment="mirror")
    change = jax.jit(augmentation.mirrored, static_argnums=0)
    found = [np.asarray(change(config, batch, step).video) for step in (0, 0, 1)]
    np.testing.assert_array_equal(*found[:2])
    video = np.asarray(batch.video)
    is_own, is_mirrored = (
        np.all(found[0] == like, axis=(1, 2, 3, 4)) for like in (video, video[:, :, :, ::-1])
    )
    assert np.all(is_own ^ is_mirrored)
    assert 16 < np.sum(is_mirrored) < 48
    assert np.any(found[0] != found[2])


def test_every_clip_has_its_own_window_that_stays_over_time(batch):
    config = config_of(tail_crop=(8, 24), n_bits=8)
    change = jax.jit(augmentation.cropped, static_argnums=0)
    found = np.asarray(change(config, batch, 3).video)
    assert found.shape == (CLIPS, 3, 8, 24, 3)
    windows = np.lib.stride_tricks.sliding_window_view(
        batch.video, (3, 8, 24, 3), axis=(1, 2, 3, 4)
    )
    is_at = np.all(windows == found[:, None, None, None, None], axis=(-4, -3, -2, -1))
    clip, _, row, column, _ = np.nonzero(is_at)
    np.testing.assert_array_equal(clip, np.arange(CLIPS))
    assert set(row) == set(range(9))
    assert set(column) == set(range(9))


def test_by_default_clips_stay_as_they_are(batch):
    config = config_of()
    assert augmentation.cropped(config, augmentation.mirrored(config, batch, 0), 0) is batch


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tail_crop": 64}, "--tail_crop=64 is larger than --image_size=16x32: use at most that"),
        ({"tail_crop": (12, 24)}, "--tail_crop=12x24 must be divisible by 8"),
        (
            {"tail_crop": 8, "image_size": (24, 12), "levels": 1, "flow": "glow"},
            "--tail_crop=8 must be divisible by 4 and not both by 8, as --image_size=24x12 is",
        ),
        (
            {"tail_crop": 8, "image_size": 64},
            "too small to see motion in frames of 64: use at least 16",
        ),
        ({"tail_crop": "wide"}, "tail_crop='wide': use a whole number of pixels from 1 to 8192"),
        ({"tail_crop": (8, 22)}, "--tail_crop=8x22 must be divisible by 2"),
        ({"augment": "turn"}, "--augment=turn is unknown: use one of none, mirror"),
        ({"weight_decay": -1.0}, "--weight_decay=-1.0 must be at least 0"),
        (
            {"tail_crop": 8, "context": "pyramid", "variant": "label_everywhere"}
            | {"label_dropout": 0.0},
            "--tail_crop=8 does not fit label images, which have the size",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        config_of(**changes)


def test_the_tail_learns_from_windows_with_the_parameters_of_whole_frames(batch):
    fields = {"image_size": (SIZE, 2 * SIZE), "num_labels": 1, "variant": "state", "levels": 2}
    fields["tail_frames"] = 2
    windowed = preset_config("small", **MIXTURE_SIZES | fields | {"tail_crop": (8, 16)})
    assert windowed.tail_crop == (8, 16)
    whole = preset_config("small", **MIXTURE_SIZES | fields)
    params = joint.params_template(windowed)["tail"]
    assert jax.tree.structure(params) == jax.tree.structure(joint.params_template(whole)["tail"])
    for config in (windowed, whole):
        loss, logs = jax.eval_shape(
            lambda params, batch, config=config: objectives.tail_loss(config, params, batch, 0),
            params,
            batch,
        )
        assert loss.shape == logs["bits_per_dim"].shape == ()
    assert step_gflop(windowed)["tail"] == pytest.approx(step_gflop(whole)["tail"] / 4, rel=1e-6)
    assert step_gflop(windowed)["head"] == step_gflop(whole)["head"]


@pytest.mark.parametrize(
    "changes",
    [
        {"num_frames": 1},
        {"image_size": 16, "head_levels": 2},
        {"image_size": (16, 96), "head_levels": 2},
    ],
)
def test_a_presets_window_is_left_out_where_it_does_not_fit(changes):
    assert preset_config("footage_small").tail_crop == (32, 32)
    assert preset_config("footage_small", **changes).tail_crop is None


@pytest.mark.parametrize("muon", [None, 0.01])
def test_weight_decay_shrinks_matrices_alone(muon):
    shrunk = {}
    for decay in (0.0, 0.5):
        config = config_of(
            muon_learning_rate=muon, weight_decay=decay, warmup_steps=0, schedule="constant"
        )
        params = {"dense": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}}
        params |= {"labels": {"kernel": jnp.ones((2, 3))}, "constants": {"kernel": jnp.ones(2)}}
        optimiser = train_state.optimizer(config, 1.0)
        zero = jax.tree.map(jnp.zeros_like, params)
        updates, _ = jax.jit(optimiser.update)(zero, optimiser.init(params), params)
        shrunk[decay] = jax.tree.map(lambda x: float(x.ravel()[0]), updates)
    rate = config.learning_rate if muon is None else muon
    assert all(size == 0 for size in jax.tree.leaves(shrunk[0.0]))
    np.testing.assert_allclose(shrunk[0.5]["dense"]["kernel"], -0.5 * rate, rtol=1e-5)
    assert shrunk[0.5]["dense"]["bias"] == shrunk[0.5]["labels"]["kernel"] == 0
    assert shrunk[0.5]["constants"]["kernel"] == 0
