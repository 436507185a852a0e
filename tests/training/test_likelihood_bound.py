"""Bits per dimension below zero stop a run where chance does not explain them, and only there."""

import numpy as np
import pytest
from helpers import events, small_state

from flowvid.config.making import preset_config
from flowvid.errors import TrainingError
from flowvid.training import likelihood_bound, loop
from flowvid.training.progress import Reporter
from flowvid.video import pixels
from flowvid.video.pixels import bits_per_dim

pytest_plugins = ["system_fixtures"]


@pytest.mark.parametrize(
    ("draws", "violated"),
    [
        ([-50.0], False),  # a single draw has no error
        ([-0.1, 0.1, 0.2, 0.1], False),
        ([-0.3, 0.1, -0.2, 0.2], False),
        ([-1.0, -1.1, -0.9], False),  # chance in one of 600 cases
        ([-1.0, -1.1, -0.9] * 10, True),
        ([-47.1, -47.2, -47.0, -47.1, -47.3], True),
        ([-1.0, -1.0, -1.0], True),
        ([np.nan, -1.0], False),
        ([np.nan, np.inf] + [-1.0, -1.1, -0.9] * 10, True),
        ([], False),
    ],
)
def test_the_mean_is_compared_with_its_error(draws, violated):
    assert likelihood_bound.is_violated(np.array(draws)) == violated


@pytest.mark.parametrize(("scale", "violated"), [(1.0, False), (1.5, True)])
def test_a_density_of_a_certain_image_violates_it_only_if_it_is_not_normalised(scale, violated):
    """With probability 1 for the image, the density of u on [0, 1) is 1 + sin(2 pi u) / 2."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        u = rng.uniform(size=(64, 12))  # 64 videos
        bits = -np.log2(scale * (1 + np.sin(2 * np.pi * u) / 2)).mean(axis=1)
        assert (bits < 0).sum() > 3  # some videos are below zero, also of a normalised density
        assert likelihood_bound.is_violated(bits) == violated


def reporter(tmp_path, **changes):
    return Reporter(preset_config("paper_small", num_frames=1, **changes), tmp_path, small_state(0))


def log_batches(made, values):
    for step, value in enumerate(values, start=1):
        made._check_batch(step, "head", value)


def test_a_batch_below_zero_is_warned_of_once_and_training_continues(tmp_path, caplog):
    made = reporter(tmp_path)
    log_batches(made, [0.3, -0.1, 0.2, -0.2, 0.1, 0.4])
    made.validated(6, "head", np.array([-0.1, 0.2, 0.1]))
    made.close()
    warned = [r.getMessage() for r in caplog.records if "of a batch are" in r.getMessage()]
    assert len(warned) == 1
    assert "the head's bits per dimension of a batch are -0.100" in warned[0]


def test_batches_that_stay_below_zero_stop_the_run(tmp_path):
    rng = np.random.default_rng(0)
    made = reporter(tmp_path)
    message = r"bits per dimension of the head are -0\.\d+ on average over \d+ batches at step \d+"
    with pytest.raises(TrainingError, match=message):
        log_batches(made, -0.1 + 0.1 * rng.normal(size=100))
    made.close()


def test_a_validation_below_zero_stops_the_run(tmp_path):
    made = reporter(tmp_path)
    message = r"of the head's validation are -0\.100 on average over 32 videos at step 3: chance"
    with pytest.raises(TrainingError, match=message):
        made.validated(3, "head", -0.1 + 0.01 * np.cos(np.pi * np.arange(32)))
    made.close()


def test_unfloored_bits_may_be_below_zero(tmp_path, caplog):
    made = reporter(tmp_path, dequantization="paper")
    log_batches(made, [-0.1] * 50)
    made.validated(50, "head", np.full(32, -0.1))
    made.close()
    assert events(tmp_path)["validation/head/bits_per_dim_paper"] == {50: pytest.approx(-0.1)}
    assert "below zero" not in caplog.text
    assert "of a batch" not in caplog.text


def test_a_wrong_log_determinant_stops_a_real_run(tiny, tmp_path, monkeypatch):
    honest = bits_per_dim
    monkeypatch.setattr(pixels, "bits_per_dim", lambda *args: honest(*args) - 50)
    patched = ("flowvid.training.objectives", "flowvid.video.joint")
    for module in patched:
        monkeypatch.setattr(f"{module}.bits_per_dim", pixels.bits_per_dim)
    with pytest.raises(TrainingError, match=r"of the head.* are -4\d\.\d+ on average .* a bug"):
        loop.train(tiny(variant="prev_frame", num_frames=1, tail_frames=None, levels=2), tmp_path)
