"""Areas under ROC curves, and the command."""

import json

import imageio.v3 as iio
import numpy as np
import pytest

from experiments.anomaly_detection import detection
from flowvid.data import media

pytest_plugins = ["system_fixtures", "command_line"]


def test_an_area_is_the_chance_of_a_larger_score():
    assert detection.area(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1
    assert detection.area(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 0
    assert detection.area(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    assert detection.area(np.array([0.0, 2.0]), np.array([1.0, 3.0])) == 0.75


def test_the_error_is_that_of_repeated_experiments():
    rng = np.random.default_rng(0)
    draw = lambda: (rng.normal(size=30), rng.normal(1.0, 1.0, 20))  # noqa: E731
    areas = [detection.area(*draw()) for _ in range(500)]
    errors = [detection.area_error(*draw(), seed=0) for _ in range(10)]
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=0.25)


def test_noise_is_found_among_clips(run_of, call, tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        video = rng.integers(0, 256, (5, 16, 16, 3), np.uint8)
        media.write_lossless(tmp_path / "noise" / name, video, "mkv", 10)
    out = tmp_path / "out"
    args = (f"--run={run_of('state')}", f"--other={tmp_path / 'noise'}", f"--out={out}")
    code, printed, _ = call("experiments.anomaly", *args)
    assert code == 0
    assert "5 normal and 2 other clips" in printed
    found = json.loads((out / "anomaly.json").read_text())
    assert found["areas"]["difference"] == {"area": 1.0, "stderr": 0.0}
    assert found["areas"]["codec_bits"]["area"] == 1
    for column in ("bits", "excess"):
        scores = [np.array(found[kind][column]) for kind in ("normal", "other")]
        assert found["areas"][column]["area"] == detection.area(*scores)
    assert iio.imread(out / "roc.png").ndim == 3
    (tmp_path / "noise" / "b.mkv").unlink()
    code, _, err = call("experiments.anomaly", *args)
    assert code == 1
    assert "there is 1 clip of --other: give at least two." in err
    media.write_image(tmp_path / "noise" / "b.png", video[0])
    code, _, err = call("experiments.anomaly", *args)
    assert code == 1
    assert "b.png of --other is a single frame: give clips, which have more." in err
