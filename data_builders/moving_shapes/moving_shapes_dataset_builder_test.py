"""The clips of moving_shapes and their builder."""

import colorsys
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from data_builders.moving_shapes import render

TIME = np.arange(30, dtype=np.float32)


def clip(index: int, split: str = "train", seed: int = 0, image_size: int = 32) -> np.ndarray:
    return render.render_clip(seed, split, index, num_frames=30, image_size=image_size)[0]


def clean(index: int, image_size: int = 32) -> tuple[np.ndarray, str]:
    """A clip without sensor noise: the scene's random stream alone."""
    label = render.LABELS[index % len(render.LABELS)]
    rng = np.random.default_rng(index)
    return render._scene(rng, label, 30, image_size), label


def test_a_clip_is_a_function_of_seed_split_and_number() -> None:
    np.testing.assert_array_equal(clip(3), clip(3))
    for other in (clip(11), clip(3, split="validation"), clip(3, split="test"), clip(3, seed=1)):
        assert (clip(3) != other).mean() > 0.5


# The beginnings of the SHA-256 of clips of version 1.0.0, which had no test split: 3 frames at 8x8.
OLD_CLIPS = {
    "train": {0: "d2e9690b7e07942e", 5: "f6fefb005861b869", 100: "eac27dd0b90b740c"},
    "validation": {0: "5257c34ea48bad66", 5: "6ad64ad92d8c2369", 100: "d97535ebfbd8a3c5"},
}


@pytest.mark.parametrize("split", OLD_CLIPS)
def test_the_clips_of_earlier_versions_are_unchanged(split: str) -> None:
    for index, digest in OLD_CLIPS[split].items():
        video, _ = render.render_clip(0, split, index, num_frames=3, image_size=8)
        assert hashlib.sha256(video.tobytes()).hexdigest().startswith(digest), index


def test_the_place_of_a_split_keys_its_clips() -> None:
    for number, split in enumerate(("train", "validation", "test")):
        key = np.random.SeedSequence([7, number, 11]).spawn(2)
        for rng, child in zip(render.streams(7, split, 11), key, strict=True):
            assert rng.random() == np.random.default_rng(child).random()


def test_both_sizes_show_the_same_scene() -> None:
    for index in range(16):
        large, small = clip(index, image_size=64), clip(index, image_size=32)
        averaged = large.reshape(30, 32, 2, 32, 2, 3).mean(axis=(2, 4))
        assert np.abs(averaged - small).mean() < 4  # the noise alone makes 1.8


def test_noise_is_slight_and_fresh_in_every_frame() -> None:
    differences = []
    for index in range(16):
        video = clip(index).astype(float)
        still = (video.max(axis=0) - video.min(axis=0) < 20) & (video.min(axis=0) > 10)
        differences.append(np.diff(video, axis=0)[:, still].ravel())
    # Two draws of 2 grey levels each, and rounding.
    assert np.concatenate(differences).std() == pytest.approx(np.sqrt(2 * (4 + 1 / 12)), rel=0.05)


@pytest.mark.parametrize("name", render.MOTIONS)
def test_objects_stay_inside_and_move_at_moderate_speed(name: str) -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        radius = float(rng.uniform(0.12, 0.2))
        path = render.MOTIONS[name](rng, TIME, radius)
        for position in (path.x, path.y):
            assert position.shape == (30,)
            assert position.min() > radius - 0.01
            assert position.max() < 1 - radius + 0.01
        speed = np.hypot(np.diff(path.x), np.diff(path.y))
        assert 0.005 < speed.max() < 0.11


def test_bounce_is_straight_between_reflections() -> None:
    path = render.bounce(np.random.default_rng(0), TIME, 0.15)
    steps = np.abs(np.diff(path.x))
    assert np.median(steps) == pytest.approx(steps.max(), rel=1e-4)


def test_fall_accelerates_by_the_same_gravity_all_the_time() -> None:
    path = render.fall(np.random.default_rng(0), TIME, 0.15)
    acceleration = np.diff(path.y, 2)
    gravity = np.median(acceleration)
    assert 0.003 <= gravity <= 0.006
    between_impacts = acceleration > 0
    np.testing.assert_allclose(acceleration[between_impacts], gravity, rtol=1e-3)
    assert between_impacts.sum() >= 24


def test_orbit_keeps_its_distance() -> None:
    path = render.orbit(np.random.default_rng(0), np.arange(400, dtype=np.float32), 0.15)
    x, y = (values - (values.min() + values.max()) / 2 for values in (path.x, path.y))
    np.testing.assert_allclose(np.hypot(x, y), np.hypot(x, y).mean(), rtol=1e-2)


def test_swing_is_on_an_arc_and_turns_round() -> None:
    path = render.swing(np.random.default_rng(0), np.arange(400, dtype=np.float32), 0.15)
    lowest = path.y.argmax()
    assert path.x[lowest] == pytest.approx(0.5, abs=0.01)
    assert 0.35 < path.x.min() + path.x.max() - 0.5 < 0.65


@pytest.mark.parametrize("shape", [look.shape for look in render.LOOKS.values()])
def test_shapes_fit_their_radius(shape: Callable) -> None:
    x, y = np.meshgrid(*[np.linspace(-1, 1, 201)] * 2)
    (inside,) = shape(x[None], y[None], 0.5) < 0
    distance = np.hypot(x, y)
    assert 0.4 < distance[inside].max() <= 0.505
    assert 0.2 < inside.mean() * 4 < 0.8


def test_labels_of_looks_fix_the_colour() -> None:
    for index in range(4, 8):
        for round_ in range(4):
            video, label = clean(index + 8 * round_)
            ground = np.median(video, axis=0)
            moving = np.abs(video - ground).sum(-1)
            colour = video[moving > np.quantile(moving, 0.99)].mean(axis=0)
            hue, saturation, _ = colorsys.rgb_to_hsv(*colour)
            distance = abs((hue - render.LOOKS[label].hue + 0.5) % 1 - 0.5)
            assert distance < 0.06, (label, hue)
            assert saturation > 0.4


def test_the_builder_writes_balanced_labels_readable_by_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        moving_shapes.Builder, "NUM_CLIPS", {"train": 16, "validation": 8, "test": 3}
    )
    builder = moving_shapes.Builder(data_dir=tmp_path, config="32x32_30f")
    builder.download_and_prepare()
    source = builder.as_data_source("train")
    assert [record["label"] for record in source] == [*range(8), *range(8)]
    assert [record["id"] for record in source] == [b"train_%05d" % index for index in range(16)]
    assert len(builder.as_data_source("validation")) == 8
    assert [record["id"] for record in builder.as_data_source("test")] == [
        b"test_%05d" % index for index in range(3)
    ]
    assert builder.info.features["label"].names == list(render.LABELS)


def test_the_default_is_64x64() -> None:
    assert moving_shapes.Builder.BUILDER_CONFIGS[0].name == "64x64_30f"
    assert moving_shapes.Builder.NUM_CLIPS == {"train": 4096, "validation": 256, "test": 256}
    assert moving_shapes.Builder.SEED == 0
