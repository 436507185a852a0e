"""Flow against GAN: the distance and the diversity of features, the classifier, the whole table."""

import json
import re

import imageio.v3 as iio
import numpy as np
import pytest
from command_line import assert_one_line
from helpers import NUM_CLIPS, TINY

import flowvid
from experiments import classifier, comparison, run_data
from flowvid.config import config_file
from flowvid.errors import ConfigError
from flowvid.gan import config, trained, training

pytest_plugins = ["command_line", "system_fixtures"]

GAN = {"preset": "small", "levels": 2, "width": 4, "batch_size": 4, "num_steps": 1, "labels": True}
GAN |= {name: TINY[name] for name in ("image_size", "num_frames")}


def gaussian(mean, scales, count=200_000):
    normal = np.random.default_rng(0).normal(size=(count, len(scales)))
    return mean + normal * scales


def test_the_distance_is_that_of_two_gaussians():
    a = gaussian(0.0, np.array([1.0, 2.0, 0.5]))
    assert comparison.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    # Of diagonal ones: |difference of means|^2 + |difference of deviations|^2.
    b = gaussian(1.0, np.array([3.0, 2.0, 1.0]))
    assert comparison.frechet_distance(a, b) == pytest.approx(3 + 4 + 0.25, rel=0.02)
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    same = comparison.frechet_distance(a @ turned, b @ turned)
    assert same == pytest.approx(comparison.frechet_distance(a, b), rel=1e-6)


def test_diversity_is_the_mean_distance_of_two_clips():
    features = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    assert comparison.diversity(features) == pytest.approx((5 + 5 + 0) / 3)
    assert comparison.diversity(np.ones((4, 2))) == 0


def test_the_classifier_learns_and_sees_motion(tiny):
    dataset = run_data.split_of(tiny(), "train")
    videos = np.stack([dataset[i]["video"] for i in range(len(dataset))])
    labels = np.array([dataset[i]["label"] for i in range(len(dataset))])
    before, after = (classifier.train(dataset, steps, seed=0) for steps in (0, 60))
    assert np.mean(before.see(videos)[0] == labels) < 0.6
    told, features = after.see(videos)
    assert np.mean(told == labels) > 0.9
    assert features.shape == (len(videos), classifier.FEATURES)
    assert not np.allclose(after.see(videos[:, ::-1])[1], features)


@pytest.fixture(scope="module")
def gan_run(data_dir, tmp_path_factory):
    """A GAN that has taken a step, of the same clips as the flows."""
    workdir = tmp_path_factory.mktemp("gan")
    training.train(config.preset_config(**GAN, data_dir=str(data_dir)), workdir)
    return workdir


def compare(*workdirs, **changes):
    few = {"num_videos": 5, "num_classifiers": 2, "classifier_steps": 2, "seed": 3}
    return comparison.compare(workdirs, temperatures=[0.5, 1.0], **few | changes)


@pytest.fixture(scope="module")
def result(run_of, gan_run):
    return compare(run_of("state_label"), gan_run, gan_run)


FLOW = "flow, state_label, temperature 0.5"
OTHER = FLOW.replace("0.5", "1")


def test_every_kind_is_measured(result, run_of, gan_run):
    assert NUM_CLIPS["validation"] == 5
    real = [comparison.HELD_OUT, comparison.TRAINING]
    assert list(result.scores) == [*real, FLOW, OTHER, "GAN, paper", comparison.NOISE]
    assert result.runs["GAN, paper"] == 2
    counts = {name: len(values) for name, values in result.scores["GAN, paper"].items()}
    assert counts == {"distance": 4, "diversity": 4, "nearest": 2, "accuracy": 4}
    held_out = result.scores[comparison.HELD_OUT]
    assert held_out["distance"] == []
    np.testing.assert_allclose(held_out["diversity"], 1)
    assert result.scores[comparison.TRAINING]["nearest"] == []
    assert result.scores[comparison.NOISE]["accuracy"] == []
    distances = {kind: np.mean(s["distance"]) for kind, s in result.scores.items() if s["distance"]}
    assert distances[comparison.TRAINING] < distances[comparison.NOISE]
    model = flowvid.load(run_of("state_label"))
    same = model.sample(5, temperature=0.5, seed=3).videos
    np.testing.assert_array_equal(result.clips[FLOW], same)
    np.testing.assert_array_equal(
        result.clips["GAN, paper"], trained.load(gan_run).sample(5, seed=3)
    )


def test_the_table_is_written_read_and_shown_in_the_report(result, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "KEPT", 1)  # encoding videos takes long
    comparison.write(result, tmp_path)
    table, clips = comparison.read(tmp_path)
    assert table == comparison.markdown(result)
    row = next(line for line in table.splitlines() if line.startswith("| GAN, paper | 2 |"))
    mean, spread = map(float, re.findall(r"\| ([\d.e+]+) ± ([\d.e+]+)", row)[0])
    distances = result.scores["GAN, paper"]["distance"]
    assert mean == pytest.approx(np.mean(distances), rel=0.01)
    assert spread == pytest.approx(np.std(distances, ddof=1), rel=0.1)
    np.testing.assert_array_equal(clips[FLOW], result.clips[FLOW][:1])
    numbers = json.loads((tmp_path / "comparison.json").read_text())
    assert numbers["scores"] == result.scores
    sheet = iio.imread(tmp_path / "comparison.png")
    assert sheet.shape[0] > len(clips) * TINY["image_size"]
    section = comparison.section(tmp_path)
    assert section.table == table
    assert [len(row) for row in section.rows] == [1] * 5
    with pytest.raises(ConfigError, match=r"experiments\.compare"):
        comparison.section(tmp_path / "none")


def test_the_command_compares_and_says_where(call, gan_run, tmp_path):
    few = ("--videos=4", "--classifiers=1", "--classifier_steps=1")
    code, out, _ = call("experiments.compare", f"--runs={gan_run}", *few, f"--out={tmp_path}")
    assert code == 0
    assert "| GAN, paper | 1 |" in out
    assert str(tmp_path) in out
    assert comparison.read(tmp_path)[0] in out


def test_runs_that_do_not_fit_together_are_refused(gan_run, data_dir, tmp_path):
    with pytest.raises(ConfigError, match="holds no run"):
        compare(gan_run, tmp_path)
    other = config.preset_config(**GAN | {"image_size": 8}, data_dir=str(data_dir))
    config_file.write(other, ("bounce",), tmp_path)
    with pytest.raises(ConfigError, match=r"--image_size=16.*of 8"):
        compare(gan_run, tmp_path)


def test_the_flow_says_what_a_gan_is(call, gan_run):
    with pytest.raises(ConfigError, match=r"flowvid\.gan\.sample"):
        flowvid.load(gan_run)
    assert_one_line(call("evaluate", f"--workdir={gan_run}"), "flowvid.gan.sample")
    assert_one_line(call("train", f"--workdir={gan_run}"), "flowvid.gan.sample")
