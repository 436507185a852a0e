"""Scores of clips: they are those of the densities, and the tables and pictures hold them."""

import csv

import imageio.v3 as iio
import numpy as np
import pytest
from coder_models import model_of
from tiny_models import BATCH, FRAMES, SIZE, tiny

from flowvid.data import media
from flowvid.data.sources import Clip
from flowvid.errors import ConfigError
from flowvid.evaluation import clip_scores
from flowvid.video.model import Model

pytest_plugins = ["tiny_models", "system_fixtures", "command_line"]


def test_scores_of_bins_are_those_of_the_density_and_their_maps(batch):
    model, videos = model_of(n_bits=5), np.asarray(batch.video)
    found = model.score(videos, batch.label)
    assert found.bits.shape == (BATCH, FRAMES)
    assert found.maps.shape == (BATCH, FRAMES, SIZE, SIZE)
    np.testing.assert_allclose(found.maps.mean(axis=(2, 3)), found.bits, rtol=1e-5)
    nats = model.log_prob(videos, batch.label)
    wanted = 5 - nats / (videos[0, 0].size * np.log(2))
    # The memory compares pixels with a threshold, at which other rounding has another result.
    np.testing.assert_allclose(found.bits, wanted, rtol=5e-3)
    # What is seen is the past alone: another last frame changes no score but its own.
    changed = videos.copy()
    changed[:, -1] = 255 - changed[:, -1]
    again = model.score(changed, batch.label)
    np.testing.assert_array_equal(again.bits[:, :-1], found.bits[:, :-1])
    assert np.all(again.bits[:, -1] != found.bits[:, -1])


def test_scores_of_a_glow_are_those_of_the_density_on_average(batch, params_of):
    model = Model(tiny("state_label"), tuple("abc"), params_of("state_label"), 0, averaged=False)
    videos = np.asarray(batch.video)
    found = [model.score(videos, batch.label, seed=seed) for seed in range(8)]
    assert all(scores.maps is None for scores in found)
    assert np.any(found[0].bits != found[1].bits)  # other noise
    np.testing.assert_array_equal(model.score(videos, batch.label, seed=1).bits, found[1].bits)
    bits = np.stack([scores.bits for scores in found])
    nats = np.stack([model.log_prob(videos, batch.label, seed=seed) for seed in range(8)])
    wanted = 5 - nats / (videos[0, 0].size * np.log(2))
    spread = np.hypot(bits.std(axis=0, ddof=1), wanted.std(axis=0, ddof=1)) / np.sqrt(8)
    assert np.all(np.abs(bits.mean(axis=0) - wanted.mean(axis=0)) < 6 * spread + 1e-3)


def test_what_cannot_be_scored_is_refused(batch):
    model = model_of(n_bits=5)
    with pytest.raises(ConfigError, match="conditioned on labels: give 4 of them"):
        model.score(np.asarray(batch.video))
    with pytest.raises(ConfigError, match="the model takes uint8"):
        model.score(np.zeros((1, 2, SIZE, SIZE, 3)), [0])


def test_a_codecs_bits_are_causal_and_small_for_what_does_not_move():
    rng = np.random.default_rng(0)
    still = np.repeat(rng.integers(0, 256, (1, 16, 16, 3), np.uint8), 5, axis=0)
    bits = clip_scores.codec_bits(still)
    assert bits[0] > 8
    assert np.all(bits[1:] < 0.2)
    changed = still.copy()
    changed[3:] = rng.integers(0, 256, (2, 16, 16, 3), np.uint8)
    again = clip_scores.codec_bits(changed)
    np.testing.assert_array_equal(again[:3], bits[:3])
    assert np.all(again[3:] > 8)


def test_a_clip_is_read_once_and_its_overlay_is_red_where_bits_are_spent(batch):
    model, calls = model_of(n_bits=5), []
    video = np.asarray(batch.video[0])
    one = clip_scores.score(model, Clip("a", 1, iter(video)), 0, lambda: calls.append(1))
    assert len(calls) == FRAMES
    np.testing.assert_array_equal(one.frames, video)
    np.testing.assert_allclose(one.bits, model.score(video[None], [1]).bits[0], rtol=1e-5)
    np.testing.assert_allclose(
        one.difference[1:], np.abs(np.diff(video * 1.0, axis=0)).mean((1, 2, 3))
    )
    np.testing.assert_allclose(
        clip_scores.means(one)["excess"], np.mean((one.bits - one.codec_bits)[1:])
    )
    maps = np.zeros((FRAMES, SIZE, SIZE), np.float32)
    maps[:, 2, 3] = 9.0
    frames = clip_scores.overlay(one._replace(maps=maps))
    assert frames.shape == (FRAMES, SIZE, 2 * SIZE, 3)
    np.testing.assert_array_equal(frames[:, 2, SIZE + 3], [[255, 0, 0]] * FRAMES)
    assert np.all(np.ptp(frames[:, :2, SIZE:].astype(int), axis=-1) == 0)  # grey elsewhere


def test_clips_are_scored_by_command(run_of, call, tmp_path):
    rng = np.random.default_rng(0)
    media.write_lossless(
        tmp_path / "clips" / "noise", rng.integers(0, 256, (3, 16, 16, 3), np.uint8), "mkv", 10
    )
    out = tmp_path / "scores"
    args = (f"--workdir={run_of('state')}", f"--out={out}")
    code, printed, _ = call("score", *args, f"--clips={tmp_path / 'clips'}")
    assert code == 0
    assert "noise.mkv" in printed
    with (out / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["0", "1", "2"]
    for row in rows:
        excess = float(row["bits"]) - float(row["codec_bits"])
        assert float(row["excess"]) == pytest.approx(excess, abs=2e-5)
    assert iio.imread(out / "time_line.png").ndim == 3
    assert not list(out.glob("*.mp4"))  # a Glow has no maps
    code, printed, _ = call("score", *args, "--num_videos=2")
    assert code == 0
    with (out / "clips.csv").open() as file:
        assert [row["frames"] for row in csv.DictReader(file)] == ["5", "5"]
    code, _, err = call("score", *args, "--label=bounce")
    assert code == 1
    assert "--label goes with --clips" in err
