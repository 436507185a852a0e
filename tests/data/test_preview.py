"""Previews of datasets: the statistics against plain numpy, and the entry point's files."""

import json

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import assert_one_line, finish, start
from helpers import NUM_CLIPS

from data_builders.generated_builder import GeneratedConfig
from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from flowvid.config.making import preset_config
from flowvid.config.metrics import METRICS
from flowvid.data import dataset_statistics, datasets
from flowvid.paths import MARKER
from flowvid.video import head
from flowvid.video.pixels import bits_per_dim, dequantize

pytest_plugins = ["system_fixtures", "command_line"]

METRICS = [METRICS[name] for name in ("5-bit", "paper")]


@pytest.fixture(scope="module")
def videos():
    """Three random clips [3, 4, 6, 6, 3], dark ones, with some black and some white pixels."""
    videos = np.random.default_rng(0).integers(0, 100, (3, 4, 6, 6, 3), np.uint8)
    videos[0, 0, :2] = 0
    videos[1, 2, 0] = 255
    videos[2, 1, 5, :, 1] = 255  # green, not white
    return videos


@pytest.fixture(scope="module")
def short_dir(tmp_path_factory):
    """A folder with records at 32x32 of 4 frames, which has no clip of the last four labels."""
    folder = tmp_path_factory.mktemp("short")
    config = GeneratedConfig(name="32x32_4f", image_size=32, num_frames=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving_shapes.Builder, "NUM_CLIPS", {"train": 4, "validation": 2})
        moving_shapes.Builder(data_dir=folder, config=config).download_and_prepare()
    return folder / "moving_shapes"


# Statistics.


def test_statistics_are_those_of_plain_numpy(videos):
    stats = dataset_statistics.frame_statistics(iter(videos))
    pixels = videos.reshape(-1, 3).astype(float)
    means, sds = zip(*dataset_statistics.mean_and_sd(stats.counts), strict=True)
    np.testing.assert_allclose(means, pixels.mean(axis=0))
    np.testing.assert_allclose(sds, pixels.std(axis=0))
    assert stats.num_clips == 3
    assert stats.black == pytest.approx((pixels.sum(axis=1) == 0).mean())
    assert stats.white == pytest.approx(6 / 432)
    assert stats.black >= 12 / 432
    difference = np.abs(np.diff(videos.astype(float), axis=1)).mean()
    assert stats.difference == pytest.approx(difference)


def test_single_images_have_no_difference(videos):
    stats = dataset_statistics.frame_statistics(videos[:, :1])
    assert stats.difference is None
    assert stats.counts.sum() == 3 * 36 * 3


def test_a_constant_clip_has_no_deviation():
    for level in range(256):
        stats = dataset_statistics.frame_statistics([np.full((3, 5, 5, 3), level, np.uint8)])
        assert dataset_statistics.mean_and_sd(stats.counts) == [(level, 0)] * 3
        assert stats.difference == 0
        assert (stats.black, stats.white) == (level == 0, level == 255)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_mean_square_is_that_of_dequantised_pixels(videos, metric):
    counts = dataset_statistics.frame_statistics(videos).counts
    copies = jnp.broadcast_to(videos.reshape(1, -1), (1000, videos.size))
    keys = jax.random.split(jax.random.key(0), len(copies))
    x = np.asarray(dequantize(keys, copies[..., None, None, None], metric), np.float64)
    exact = dataset_statistics.mean_square(counts, metric)
    assert exact == pytest.approx((x**2).mean(), rel=2e-4)
    other = METRICS[1 - METRICS.index(metric)]
    assert exact != pytest.approx(dataset_statistics.mean_square(counts, other), rel=2e-3)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_untrained_bits_are_those_of_the_untrained_flow(videos, metric):
    images = np.tile(videos.reshape(12, 6, 6, 3)[:, :4, :4], (20, 1, 1, 1))
    keys = jax.random.split(jax.random.key(0), len(images))
    x = dequantize(keys, jnp.asarray(images), metric)
    config = preset_config(
        "paper_small", variant="init", image_size=4, levels=2, head_steps=2, width=4, num_labels=1
    )
    labels = jnp.zeros(len(images), int)

    @jax.jit
    def untrained(x):
        params = head.init(config, jax.random.key(1), x, labels)
        return head.log_prob(config, params, x, labels)

    density = untrained(x)
    bits = bits_per_dim(density.log_prob, 4 * 4 * 3, metric).mean()
    square = dataset_statistics.mean_square(
        dataset_statistics.frame_statistics(images[:, None]).counts, metric
    )
    assert dataset_statistics.untrained_bits_per_dim(square, metric) == pytest.approx(
        float(bits), rel=1e-4
    )


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (3, 2, 2), (5, 2, 3)])
def test_clips_play_side_by_side(count, rows, columns):
    videos = np.random.default_rng(0).integers(0, 256, (count, 3, 4, 5, 3), np.uint8)
    grid = dataset_statistics.side_by_side(videos)
    assert grid.shape == (3, rows * 6, columns * 7, 3)
    for index in range(rows * columns):
        top, left = index // columns * 6, index % columns * 7
        cell = grid[:, top : top + 4, left : left + 5]
        np.testing.assert_array_equal(cell, videos[index] if index < count else 255)


# The entry point.


def test_preview_writes_pictures_and_a_summary(data_dir, tmp_path):
    args = (f"--data_dir={data_dir}", "--image_size=32", "--num_videos=5", f"--out={tmp_path}")
    code, out, err = finish(start("preview", *args, "--num_stats=7"))
    assert code == 0, err
    assert {path.name for path in tmp_path.iterdir()} == {
        "samples.png",
        "samples.gif",
        "summary.json",
        MARKER,
    }
    assert iio.imread(tmp_path / "samples.gif").shape == (30, 2 * 34 * 5, 3 * 34 * 5, 3)
    assert len(iio.imread(tmp_path / "samples.png")) == 2 + 5 * (96 + 2)

    report = json.loads((tmp_path / "summary.json").read_text())
    assert (report["dataset"], report["split"]) == ("moving_shapes", "train")
    assert (report["num_clips"], report["num_frames"], report["image_size"]) == (12, 30, 32)
    assert list(report["labels"].values()) == [2, 2, 2, 2, 1, 1, 1, 1]
    assert set(report["metrics"]) == {"5-bit", "paper"}
    dataset = datasets.load(
        "moving_shapes", "train", data_dir=data_dir, num_frames=30, image_size=32
    )
    order = np.random.default_rng(0).permutation(12)[:7].tolist()
    measured = np.stack([dataset[index]["video"] for index in order]).astype(float)
    stats = report["statistics"]
    assert stats["num_clips"] == 7
    np.testing.assert_allclose(stats["mean"], measured.mean(axis=(0, 1, 2, 3)))
    assert stats["difference"] == pytest.approx(np.abs(np.diff(measured, axis=1)).mean())

    assert "moving_shapes, split train: 12 clips of 30 frames at 32x32" in out
    assert "  bounce                 2\n" in out
    assert f"{stats['difference']:.2f}\n" in out
    assert f"has {report['metrics']['paper']['init_bits_per_dim']:.4f} bits per dimension" in out
    assert f"5 clips and summary.json are in {tmp_path}." in out


def test_one_label_is_shown_and_measured(data_dir, tmp_path, call):
    args = (f"--data_dir={data_dir}", "--image_size=32", "--label=swing", f"--out={tmp_path}")
    code, out, _ = call("preview", *args)
    assert code == 0
    assert f"2 clips and summary.json are in {tmp_path}." in out
    assert "Frames of 2 clips of swing, in grey levels" in out
    report = json.loads((tmp_path / "summary.json").read_text())
    assert sum(report["labels"].values()) == NUM_CLIPS["train"]
    dataset = datasets.load(
        "moving_shapes", "train", data_dir=data_dir, num_frames=30, image_size=32
    )
    swings = np.stack([dataset[index]["video"] for index in (3, 11)])
    np.testing.assert_allclose(report["statistics"]["mean"], swings.mean(axis=(0, 1, 2, 3)))


def test_frames_and_size_default_to_what_there_is(short_dir, tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("preview", f"--dataset={short_dir}/32x32_4f/1.1.0", "--split=validation")
    assert code == 0
    assert "moving_shapes, split validation: 2 clips of 4 frames at 32x32" in out
    assert (tmp_path / "preview" / "moving_shapes" / "samples.gif").exists()
    code, out, _ = call("preview", f"--dataset={short_dir}", "--num_frames=3", "--image_size=16")
    assert code == 0
    assert "split train: 4 clips of 3 frames at 16x16" in out


def test_the_defaults_are_30_frames_at_64x64(data_dir, call, tmp_path):
    # Both sizes in a folder, so that nothing is prepared here.
    config = GeneratedConfig(name="128x128_32f", image_size=128, num_frames=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving_shapes.Builder, "NUM_CLIPS", {"train": 1, "validation": 1})
        moving_shapes.Builder(data_dir=tmp_path, config=config).download_and_prepare()
    code, out, _ = call("preview", f"--dataset={tmp_path}/moving_shapes", f"--out={tmp_path}/out")
    assert code == 0
    assert "1 clips of 30 frames at 64x64" in out


def test_single_images_have_neither_differences_nor_a_gif(image_dir, tmp_path, call):
    code, out, _ = call("preview", f"--dataset={image_dir}", f"--out={tmp_path}")
    assert code == 0
    assert f"{NUM_CLIPS['train']} images at 32x32" in out
    assert "difference" not in out
    assert {path.name for path in tmp_path.iterdir()} == {"samples.png", "summary.json", MARKER}
    assert json.loads((tmp_path / "summary.json").read_text())["statistics"]["difference"] is None


def test_the_seed_draws_other_clips(data_dir, tmp_path, call):
    sheets = []
    for seed, out in ((0, "a"), (0, "b"), (1, "c")):
        args = (f"--data_dir={data_dir}", "--image_size=16", "--num_videos=3", f"--seed={seed}")
        assert call("preview", *args, f"--out={tmp_path / out}")[0] == 0
        sheets.append((tmp_path / out / "samples.png").read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--label=bouncing"], "Unknown label 'bouncing'; the nearest of 8: bounce,"),
        (["--label=red_disk"], "moving_shapes has no clip with label 'red_disk' in split 'train'"),
        (["--split=test"], "no examples in split 'test'; it has 4 in 'train', 2 in 'validation'"),
        (["--num_frames=5"], "has 4 frames per video, but 5 were asked for"),
        (["--image_size=24"], "available at 32x32, but image size 24 was asked for"),
        (["--dataset=moving_shape"], "Unknown dataset 'moving_shape'; use moving_shapes"),
    ],
)
def test_an_error_is_one_line(short_dir, tmp_path, call, args, message):
    result = call("preview", f"--dataset={short_dir}", f"--out={tmp_path}/new", *args)
    assert_one_line(result, message)
    assert not (tmp_path / "new").exists()
