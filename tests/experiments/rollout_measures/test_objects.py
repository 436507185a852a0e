"""Objects that stay whole are counted as kept; holes, pieces, ghosts and absence are not."""

import numpy as np
import pytest

from data_builders.moving_shapes import render
from experiments.rollout_measures import measures
from experiments.rollout_measures.objects import objects_kept

GIVEN = 4


def clip(index=7, frames=30):
    """A clip of moving_shapes, 32x32; 4 is of red disks, 7 of yellow rings."""
    return render.render_clip(0, "validation", index, num_frames=frames, image_size=32)[0]


def object_mask(video):
    """Where each frame is off the ground, by its distance from the median."""
    return np.abs(video.astype(int) - np.median(video, axis=0)).sum(-1) > 120


def test_the_real_clip_keeps_its_objects():
    for index in range(16):
        kept = objects_kept(clip(index), clip(index), GIVEN, 8)
        if kept is not None:
            assert kept.is_kept
            assert (kept.area, kept.distance) == (1.0, 0.0)
            assert kept.whole >= 0.8
    assert objects_kept(clip(4), clip(4), GIVEN, 8) is not None


def test_an_object_that_is_gone_or_broken_is_not_kept():
    real = clip(4)
    ground = np.median(real, axis=0).astype(np.uint8)
    gone = objects_kept(real, np.broadcast_to(ground, real.shape), GIVEN, 8)
    assert not gone.is_kept
    assert gone.area == 0
    assert np.isnan(gone.distance)
    mosaic = real.copy()
    checks = np.indices((32, 32)).sum(0) % 2 == 0
    mosaic[:, checks] = ground[checks]
    broken = objects_kept(real, mosaic, GIVEN, 8)
    assert 0.4 < broken.area < 0.6
    assert broken.whole < 0.3
    assert not broken.is_kept


def test_an_object_that_stands_still_is_kept_but_far():
    real = clip(4)
    held = np.concatenate([real[:GIVEN], np.repeat(real[GIVEN - 1 : GIVEN], 26, axis=0)])
    kept = objects_kept(real, held, GIVEN, 11)
    assert kept.is_kept
    assert kept.distance > 2


def test_clips_without_objects_are_not_counted():
    ground = np.full((12, 32, 32, 3), 90, np.uint8)
    assert objects_kept(ground, ground, GIVEN, 8) is None


def test_psnr_is_the_known_one():
    real = np.full((2, 6, 4, 4, 3), 100, np.uint8)
    samples = np.stack([real + 10, real])
    found = measures.psnr(real, samples, GIVEN)
    assert found.shape == (2, 2, 2)
    np.testing.assert_allclose(found[0], 10 * np.log10(255**2 / 100), rtol=1e-6)
    np.testing.assert_allclose(found[1], 10 * np.log10(255**2 * 48), rtol=1e-6)
    measured = measures.measure(measures.Rollout(real, samples, GIVEN), has_objects=False)
    np.testing.assert_allclose(measured["psnr_best"]["mean"], found[1, 0], rtol=1e-6)
    np.testing.assert_allclose(measured["psnr_mean"]["mean"], found.mean(0)[0], rtol=1e-6)
    assert measured["psnr_mean"]["stderr"] == [0, 0]
    assert "objects" not in measured


def test_baselines_hold_the_last_frame_or_the_median():
    real = np.arange(6, dtype=np.uint8).reshape(1, 6, 1, 1, 1) * np.ones((1, 1, 2, 2, 3), np.uint8)
    found = measures.baselines(real, given=3)
    assert found["hold the last frame"][0, 0, :, 0, 0, 0].tolist() == [0, 1, 2, 2, 2, 2]
    assert found["static median"][0, 0, :, 0, 0, 0].tolist() == [0, 1, 2, 1, 1, 1]


@pytest.mark.parametrize("count", [1, 3])
def test_shares_are_over_clips(count):
    real = np.stack([clip(4)] * count)
    rollout = measures.Rollout(real, np.stack([real, real]), GIVEN)
    last = measures.measure(rollout, has_objects=True)["objects"][-1]
    assert (last["kept"], last["distance"], last["clips"]) == (1.0, 0.0, count)
    assert last["stderr"] == (0 if count > 1 else None)
