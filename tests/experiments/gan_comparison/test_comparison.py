"""Flow and GAN: the distances of features, the classifier, kinds of runs, and the whole table."""

import json
import re
import shutil

import imageio.v3 as iio
import numpy as np
import pytest
from command_line import assert_one_line
from helpers import NUM_CLIPS, TINY

import flowvid
from experiments.gan_comparison import classifier, comparison, generators, result_files
from experiments.gan_comparison.feature_metrics import diversity, frechet_distance
from experiments.running import finished_runs
from flowvid.config import config_file
from flowvid.errors import ConfigError
from flowvid.gan import config, trained, training

pytest_plugins = ["command_line", "system_fixtures"]

GAN = {"preset": "small", "levels": 1, "width": 4, "batch_size": 4, "num_steps": 1, "labels": True}
GAN |= {name: TINY[name] for name in ("image_size", "num_frames")}


def gaussian(mean, scales, count=200_000):
    normal = np.random.default_rng(0).normal(size=(count, len(scales)))
    return mean + normal * scales


def test_the_distance_is_that_of_two_gaussians():
    a = gaussian(0.0, np.array([1.0, 2.0, 0.5]))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    # Of diagonal ones: |difference of means|^2 + |difference of deviations|^2.
    b = gaussian(1.0, np.array([3.0, 2.0, 1.0]))
    assert frechet_distance(a, b) == pytest.approx(3 + 4 + 0.25, rel=0.02)
    assert frechet_distance(a[:, :1], b[:, :1]) == pytest.approx(1 + 4, rel=0.02)
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    same = frechet_distance(a @ turned, b @ turned)
    assert same == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_diversity_is_the_mean_distance_of_two_clips():
    features = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    assert diversity(features) == pytest.approx((5 + 5 + 0) / 3)
    assert diversity(np.ones((4, 2))) == 0


def test_the_classifier_learns_and_sees_motion(tiny, monkeypatch):
    dataset = finished_runs.load_split(tiny(), "train")
    videos = np.stack([dataset[i]["video"] for i in range(len(dataset))])
    labels = np.array([dataset[i]["label"] for i in range(len(dataset))])
    monkeypatch.setattr(classifier, "BATCH", len(videos))
    before, after = (classifier.train(dataset, steps, seed=0) for steps in (0, 60))
    assert np.mean(before.classify(videos)[0] == labels) < 0.6
    predicted, features = after.classify(videos)
    assert np.mean(predicted == labels) > 0.9
    assert features.shape == (len(videos), classifier.FEATURES)
    assert not np.allclose(after.classify(videos[:, ::-1])[1], features)


@pytest.fixture(scope="module")
def gan_run(data_dir, tmp_path_factory):
    """A GAN that has taken a step, of the same clips as the flows."""
    workdir = tmp_path_factory.mktemp("gan")
    training.train(config.preset_config(**GAN, data_dir=str(data_dir)), workdir)
    return workdir


def compare(*workdirs, **changes):
    few = {"num_videos": 5, "num_classifiers": 2, "classifier_steps": 2, "seed": 3}
    return comparison.compare(workdirs, temperatures=[0.5, 1.0], **few | changes)


def copy_of(workdir, folder, **changes):
    """A run whose configuration differs in some fields, but whose parameters are the same."""
    shutil.copytree(workdir, folder)
    saved = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(saved | changes))
    return folder


@pytest.fixture(scope="module")
def other_seed(gan_run, tmp_path_factory):
    """The GAN's run as another seed might have had it."""
    return copy_of(gan_run, tmp_path_factory.mktemp("gan") / "seed5", seed=5)


@pytest.fixture(scope="module")
def result(run_of, gan_run, other_seed):
    return compare(run_of("state_label"), gan_run, other_seed)


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


def test_the_table_is_written_and_read(result, tmp_path, monkeypatch):
    monkeypatch.setattr(result_files, "KEPT", 1)  # encoding videos takes long
    result_files.write(result, tmp_path)
    table, clips, dataset = result_files.read(tmp_path)
    assert dataset == "moving_shapes"
    assert table == result_files.markdown(result)
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
    assert [len(some) for some in clips.values()] == [1] * 5
    with pytest.raises(ConfigError, match=r"experiments\.compare"):
        result_files.read(tmp_path / "none")


def test_the_command_compares_and_says_where(call, gan_run, tmp_path):
    few = ("--videos=4", "--classifiers=1", "--classifier_steps=1")
    code, out, _ = call("experiments.compare", f"--runs={gan_run}", *few, f"--out={tmp_path}")
    assert code == 0
    assert "| GAN, paper | 1 |" in out
    assert str(tmp_path) in out
    assert result_files.read(tmp_path).table in out


def kinds_of(*workdirs):
    return generators.kinds(workdirs, [generators.load(workdir) for workdir in workdirs])


def test_runs_of_other_sizes_or_steps_are_not_seeds_of_one_another(gan_run, other_seed, tmp_path):
    assert kinds_of(gan_run, other_seed) == ["GAN, paper"] * 2
    # What changes nothing in the model is no difference; the preset's values are what counts.
    often = copy_of(gan_run, tmp_path / "often", log_every=7, preset="paper", seed=6)
    longer = copy_of(gan_run, tmp_path / "longer", num_steps=2, learning_rate=0.5)
    assert kinds_of(gan_run, longer, often, other_seed) == [
        "GAN, paper (learning_rate 0.0001, num_steps 1)",
        "GAN, paper (learning_rate 0.5, num_steps 2)",
        "GAN, paper (learning_rate 0.0001, num_steps 1)",
        "GAN, paper (learning_rate 0.0001, num_steps 1)",
    ]


def test_flows_of_other_checkpoints_are_shown_apart(run_of):
    workdir = run_of("state_label")
    last, earlier = (flowvid.load(workdir, checkpoint=step) for step in ("last", "2"))
    assert generators.kinds([workdir] * 2, [last, earlier]) == [
        "flow, state_label (step 4)",
        "flow, state_label (step 2)",
    ]


def test_a_run_that_is_given_twice_is_refused(gan_run, tmp_path):
    """It would show no spread where there are no two seeds."""
    copied = copy_of(gan_run, tmp_path / "copied")
    with pytest.raises(ConfigError, match=r"copied are the same run.*'GAN, paper' and seed 0"):
        kinds_of(gan_run, copied)


def test_a_flow_that_draws_more_frames_than_the_gan_has_is_compared(gan_run, run_of, tmp_path):
    short = copy_of(gan_run, tmp_path / "short", num_frames=2)
    settings, frames = comparison._shared_settings([run_of("state_label"), short])
    assert (settings.tail_frames, frames) == (2, 2)


def test_runs_that_do_not_fit_together_are_refused(gan_run, data_dir, tmp_path):
    with pytest.raises(ConfigError, match="holds no run"):
        compare(gan_run, tmp_path)
    other = config.preset_config(**GAN | {"image_size": 8}, data_dir=str(data_dir))
    config_file.write(other, ("bounce",), tmp_path)
    with pytest.raises(ConfigError, match=r"--image_size=16, but .* has 8"):
        compare(gan_run, tmp_path)


def test_the_flow_says_what_a_gan_is(call, gan_run):
    with pytest.raises(ConfigError, match=r"flowvid\.gan\.sample"):
        flowvid.load(gan_run)
    assert_one_line(call("evaluate", f"--workdir={gan_run}"), "flowvid.gan.sample")
    assert_one_line(call("train", f"--workdir={gan_run}"), "flowvid.gan.sample")
