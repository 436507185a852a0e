"""The clips of moving_digits and their builder."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_builders.moving_digits import digits, render
from data_builders.moving_digits import moving_digits_dataset_builder as moving_digits
from data_builders.moving_shapes import render as shapes

BILINEAR = Image.Resampling.BILINEAR
TIME = np.arange(30, dtype=np.float32)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, digits.Images]:
    return digits.load(tmp_path_factory.mktemp("unused"))


def clip(
    images: dict[str, digits.Images],
    index: int,
    split: str = "train",
    seed: int = 1,
    image_size: int = 32,
) -> np.ndarray:
    size = {"num_frames": 30, "image_size": image_size}
    return render.render_clip(seed, split, index, images[split], **size)[0]


# Clips.


def test_a_clip_is_a_function_of_seed_split_and_number(images: dict) -> None:
    np.testing.assert_array_equal(clip(images, 3), clip(images, 3))
    for other in ({"index": 13}, {"index": 3, "split": "validation"}, {"index": 3, "seed": 2}):
        assert (clip(images, 3) != clip(images, **other)).mean() > 0.5


# The beginnings of the SHA-256 of clips of version 1.0.0, which had no test split: 3 frames at 8x8.
OLD_CLIPS = {
    "train": {0: "1942c7652a917152", 5: "4bac0a74aad82f0d", 100: "b57cb5917230d25d"},
    "validation": {0: "be0fbe889ac46c90", 5: "42111c5328611f9d", 100: "8dd95a825d0c7196"},
}


@pytest.mark.parametrize("split", OLD_CLIPS)
def test_the_clips_of_earlier_versions_are_unchanged(images: dict, split: str) -> None:
    for index, digest in OLD_CLIPS[split].items():
        size = {"num_frames": 3, "image_size": 8}
        video, _ = render.render_clip(1, split, index, images[split], **size)
        assert hashlib.sha256(video.tobytes()).hexdigest().startswith(digest), index


def test_labels_take_turns(images: dict) -> None:
    labels = [
        render.render_clip(1, "train", index, images["train"], num_frames=1, image_size=32)[1]
        for index in range(20)
    ]
    assert labels == list("01234567890123456789")


def test_both_sizes_show_the_same_scene(images: dict) -> None:
    for index in range(16):
        large, small = clip(images, index, image_size=64), clip(images, index)
        averaged = large.reshape(30, 32, 2, 32, 2, 3).mean(axis=(2, 4))
        assert np.abs(averaged - small).mean() < 4  # the noise alone makes 1.8


def ground_and_clip(images: dict, index: int, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """What lies under a validation clip, and the clip, in grey levels."""
    ground = shapes.ground(shapes.streams(1, "validation", index)[0], image_size)
    return 255 * ground, clip(images, index, "validation", image_size=image_size).astype(float)


def box(values: np.ndarray) -> np.ndarray:
    """The smallest square around what is brighter than half the brightest, as 20x20 pixels."""
    rows, columns = np.nonzero(values > values.max() / 2)
    row, column = (p.min() + p.max() + 1 for p in (rows, columns))  # twice the middle
    side = 1 + max(np.ptp(rows), np.ptp(columns))
    corners = [(middle + sign * side) / 2 for sign in (-1, 1) for middle in (column, row)]
    picture = Image.fromarray(values.astype(np.float32))
    return np.asarray(
        picture.transform((20, 20), Image.Transform.EXTENT, corners, BILINEAR)
    ).ravel()


@pytest.mark.parametrize("image_size", [32, 64])
def test_a_digit_can_be_read_in_the_first_frame(
    images: dict, image_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The most alike of the training digits, which are other images, mostly has the label."""
    monkeypatch.setattr(shapes, "SECOND_OBJECT_PROBABILITY", 0)
    known = np.stack([box(image) for image in images["train"][:, :100].reshape(-1, 28, 28)])
    known = known / np.linalg.norm(known, axis=1, keepdims=True)
    right = []
    for index in range(60):
        ground, video = ground_and_clip(images, index, image_size)
        difference = np.abs(video[0] - ground).max(axis=-1)
        assert np.quantile(difference, 0.98) > 50
        right.append((known @ box(difference)).argmax() // 100 == index % 10)
    assert np.mean(right) > 0.7, np.mean(right)


# Ways and shapes.


def test_digits_stay_inside_and_move_at_moderate_speed() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        radius = float(rng.uniform(0.18, 0.35))
        path = render._path(rng, TIME, radius, (0.5, 0.5) if seed % 2 else None)
        for position in (path.x, path.y):
            assert position.min() > radius - 0.01
            assert position.max() < 1 - radius + 0.01
        speed = np.hypot(np.diff(path.x), np.diff(path.y))
        assert 0.005 < speed.max() < 0.11
        assert np.abs(path.angle).max() <= 0.3
        assert np.abs(np.diff(path.angle)).max() < 0.06


def test_a_second_digit_starts_away_from_the_first() -> None:
    distances = [
        np.hypot(path.x[0] - 0.3, path.y[0] - 0.4)
        for path in (
            render._path(np.random.default_rng(seed), TIME, 0.22, (0.3, 0.4)) for seed in range(50)
        )
    ]
    assert np.median(distances) > 0.35


def test_nothing_moves_but_the_digits_and_their_shadows(images: dict) -> None:
    for index in range(20):
        ground, video = ground_and_clip(images, index, 32)
        touched = np.abs(video - ground).max(axis=-1) > 15
        assert 0.02 < touched.mean(axis=(1, 2)).min()
        assert touched.mean(axis=(1, 2)).max() < 0.4


def test_a_glyph_is_its_digit_and_fits_its_radius(images: dict) -> None:
    for image in images["train"][:, 0]:
        glyph = render.glyph(image)
        radius = glyph.reach / render._FINENESS  # one pixel of the image a unit
        middle = np.array([glyph.row, glyph.column]) / render._FINENESS - render._MARGIN
        y, x = np.arange(28)[:, None] + 0.5 - middle[0], np.arange(28)[None] + 0.5 - middle[1]
        x, y = (np.broadcast_to(a, (1, 28, 28)).astype(np.float32) for a in (x, y))
        distance = glyph.shape(x, y, radius)[0]
        ink = image > 110
        assert (ink == (distance < 0)).mean() > 0.97
        assert np.hypot(x, y)[0][distance < 0].max() <= radius + 0.5
        assert distance.min() > -6  # strokes are a few pixels wide
        # Distances: no farther apart than the points are.
        assert np.abs(np.diff(distance, axis=0))[8:20, 8:20].max() < 1.2


def test_the_colours_differ_from_the_ground_and_from_each_other() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        ground = shapes.ground(rng, 32).mean(axis=(0, 1))
        first, second = render._colours(rng, ground)
        assert np.abs(first - ground).max() > 0.4
        assert np.abs(second - ground).max() > 0.4
        assert np.abs(first - second).max() > 0.1
        assert (first.max() > 0.9) == (ground.mean() < 0.45) == (second.max() > 0.9)


# The builder.


def test_the_builder_writes_what_is_rendered(
    images: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = {"train": 12, "validation": 10, "test": 11}
    monkeypatch.setattr(moving_digits.Builder, "NUM_CLIPS", lengths)
    builder = moving_digits.Builder(data_dir=tmp_path, config="32x32_30f")
    builder.download_and_prepare()
    assert builder.info.name == "moving_digits"
    assert builder.info.features["label"].names == list("0123456789")
    shown = render.images_shown(1, "train", 12, 450)
    of_split = {**images, "test": digits.unseen(images["train"], shown)}
    for split, length in lengths.items():
        source = builder.as_data_source(split)
        assert [record["label"] for record in source] == [index % 10 for index in range(length)]
        assert [record["id"].decode() for record in source] == [
            f"{split}_{index:05d}" for index in range(length)
        ]
        np.testing.assert_array_equal(source[7]["video"], clip(of_split, 7, split))


def test_the_default_is_64x64() -> None:
    assert [config.name for config in moving_digits.Builder.BUILDER_CONFIGS] == [
        "64x64_30f",
        "32x32_30f",
    ]
    assert moving_digits.Builder.NUM_CLIPS == {"train": 4096, "validation": 512, "test": 512}
    assert moving_digits.Builder.SEED == 1
