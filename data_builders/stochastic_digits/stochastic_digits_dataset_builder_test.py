"""The clips of stochastic_digits and their builder."""

from pathlib import Path

import numpy as np
import pytest

from data_builders.moving_digits import digits
from data_builders.stochastic_digits import render
from data_builders.stochastic_digits import stochastic_digits_dataset_builder as stochastic_digits


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, digits.Images]:
    return stochastic_digits.split_images(digits.load(tmp_path_factory.mktemp("unused")))


def clip(
    images: dict, index: int, split: str = "train", seed: int = 2, **changes: int
) -> np.ndarray:
    size = {"num_frames": 30, "image_size": 64, **changes}
    return render.render_clip(seed, split, index, images[split], **size)


# Clips.


def test_a_clip_is_a_function_of_seed_split_and_number(images: dict) -> None:
    np.testing.assert_array_equal(clip(images, 3), clip(images, 3))
    for other in ({"index": 13}, {"index": 3, "split": "test"}, {"index": 3, "seed": 1}):
        assert (clip(images, 3) != clip(images, **other)).any(axis=(1, 2, 3)).all()


def test_clips_are_gray_on_black(images: dict) -> None:
    video = clip(images, 0)
    assert (video.shape, video.dtype) == ((30, 64, 64, 3), np.uint8)
    assert (video == video[..., :1]).all()
    assert (video == 0).mean() > 0.7
    assert video.max(axis=(1, 2, 3)).min() > 250


def test_at_32x32_pixels_are_averages(images: dict) -> None:
    averages = clip(images, 5).reshape(30, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    assert np.abs(averages - clip(images, 5, image_size=32)).max() <= 1  # rounded along both axes


def test_a_shorter_clip_is_the_beginning_of_a_longer_one(images: dict) -> None:
    np.testing.assert_array_equal(clip(images, 4, num_frames=9), clip(images, 4)[:9])


def test_gray_levels_of_overlapping_digits_are_added(images: dict) -> None:
    both, one = clip(images, 0).astype(int), clip(images, 0, num_digits=1).astype(int)
    other = both - one  # the other digit where the sum is below 255
    assert other.min() == 0
    assert both.max() == 255
    visible = (other * (both < 255))[0].any(axis=-1).nonzero()
    assert max(np.ptp(place) for place in visible) < render.DIGIT_SIZE
    added = (one > 0) & (other > 0) & (both < 255)
    assert added.any()


def test_digits_move_by_their_velocity_alone(images: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    places = np.array([[0, 31], [2, 27], [31, 0]])
    monkeypatch.setattr(render, "path", lambda rng, num_frames: places[:num_frames])
    video = clip(images, 0, num_frames=3, num_digits=1)[..., 0]
    windows = [
        frame[row : row + 32, column : column + 32]
        for frame, (row, column) in zip(video, places, strict=True)
    ]
    for window, frame in zip(windows, video, strict=True):
        np.testing.assert_array_equal(window, windows[0])
        assert window.sum() == frame.sum() > 0


# Paths.


def test_digits_stay_inside_and_keep_their_velocity_between_bounces() -> None:
    bounces, starts, speeds = 0, [], []
    for seed in range(300):
        path = render.path(np.random.default_rng(seed), 30)
        assert path.shape == (30, 2)
        assert path.min() >= 0
        assert path.max() <= render.FURTHEST
        steps = np.diff(path, axis=0)
        changes = (steps[1:] != steps[:-1]).any(axis=-1)
        at_edge = ((path == 0) | (path == render.FURTHEST)).any(axis=-1)[1:]
        # A step may end short at the edge; the next begins there.
        assert (at_edge[:-1] | at_edge[1:])[changes].all()
        bounces += int((changes & at_edge[:-1]).sum())
        starts.append(path[0])
        speeds.append(steps)
    assert bounces > 300
    assert (np.min(starts), np.max(starts)) == (0, render.FURTHEST)
    assert (np.min(speeds), np.max(speeds)) == (-4, 4)


def walk(
    seed: int, position: tuple[int, int], velocity: tuple[int, int], num_frames: int = 30
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return render.walk(rng, np.array(position), np.array(velocity), num_frames)


def test_bounces_draw_new_directions() -> None:
    """The same digit moves alike up to its bounce, and then by other random numbers elsewhere."""
    paths = [walk(seed, (10, 25), (1, 3)) for seed in range(40)]
    beginning = [[10, 25], [11, 28], [12, 31], [13, 31]]  # of 34, which is beyond the edge
    for path in paths:
        np.testing.assert_array_equal(path[:4], beginning)
        assert path[4, 1] < render.FURTHEST  # away from the edge
    velocities = {tuple(path[4] - path[3]) for path in paths}
    assert len(velocities) > 20
    assert {column for _, column in velocities} == {-4, -3, -2, -1}
    assert min(row for row, _ in velocities) < 0 < max(row for row, _ in velocities)


@pytest.mark.parametrize(
    ("velocity", "away"), [((-3, 0), (1, 0)), ((3, 0), (-1, 0)), ((0, -3), (0, 1))]
)
def test_bounces_lead_away_from_every_edge(
    velocity: tuple[int, int], away: tuple[int, int]
) -> None:
    for seed in range(20):
        path = walk(seed, (16, 16), velocity, num_frames=8)  # the edge is reached in frame 5 or 6
        step = path[7] - path[6]
        assert 1 <= np.dot(step, away) <= 4


def test_the_place_where_a_bounce_begins_is_that_of_svg() -> None:
    """As in SVG, the last place, 31, leaves a column free, and to stand on it is no bounce."""
    path = walk(0, (31, 10), (0, 1), num_frames=20)
    np.testing.assert_array_equal(path[:, 0], 31)
    np.testing.assert_array_equal(path[:, 1], np.arange(10, 30))


# The builder.


def test_no_image_of_a_digit_is_in_two_splits(images: dict) -> None:
    pixels = {
        split: {image.tobytes() for image in of_split.reshape(-1, 28, 28)}
        for split, of_split in images.items()
    }
    assert [images[split].shape[1] for split in ("train", "validation", "test")] == [400, 50, 50]
    assert sum(map(len, pixels.values())) == len(set().union(*pixels.values())) > 4990


@pytest.mark.parametrize(("suffix", "num_digits"), [("", 2), ("_one_digit", 1)])
def test_the_builder_writes_what_is_rendered(
    images: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, num_digits: int
) -> None:
    lengths = {"train": 4, "validation": 3, "test": 2}
    monkeypatch.setattr(stochastic_digits.Builder, "NUM_CLIPS", lengths)
    builder = stochastic_digits.Builder(data_dir=tmp_path, config=f"32x32_30f{suffix}")
    builder.download_and_prepare()
    assert builder.info.name == "stochastic_digits"
    assert builder.info.features["label"].names == ["unlabelled"]
    for split, length in lengths.items():
        source = builder.as_data_source(split)
        assert [record["id"].decode() for record in source] == [
            f"{split}_{index:05d}" for index in range(length)
        ]
        expected = clip(images, 1, split, image_size=32, num_digits=num_digits)
        np.testing.assert_array_equal(source[1]["video"], expected)


def test_the_default_is_two_digits_at_64x64() -> None:
    first = stochastic_digits.Builder.BUILDER_CONFIGS[0]
    assert (first.name, first.image_size, first.num_frames) == ("64x64_30f", 64, 30)
    assert stochastic_digits.Builder.NUM_CLIPS == {"train": 4096, "validation": 512, "test": 512}
    assert stochastic_digits.Builder.SEED == 2
