"""A run with the mixture flow and the U-Net encoder, on two devices, from training to use."""

import dataclasses
import functools
import json
import shutil

import imageio.v3 as iio
import jax
import numpy as np
import pytest
from helpers import TINY, assert_same, saved

import flowvid
from flowvid.config import making
from flowvid.config.metrics import METRICS
from flowvid.training import loop
from flowvid.video import joint, sampling

pytest_plugins = ["system_fixtures", "command_line"]

OF_OTHERS = ("head_steps", "tail_steps", "width", "state_size")
SIZES = {name: value for name, value in TINY.items() if name not in OF_OTHERS} | {
    "flow": "mixture",
    "context": "unet",
    "variant": "label_everywhere",
    "components": 3,
    "stage_width": 8,
    "head_stage_width": 12,
    "head_levels": 1,
    "unet_width": 8,
    "features": 4,
    "layer_width": 8,
    "label_width": 3,
    "head_width": 8,
    "head_depth": 2,
    "head_frames": "any",
    "head_frames_drawn": 2,
    "head_learning_rate": 0.02,
    "label_learning_rate": 0.005,
    "label_dropout": 0.25,
}
GUIDED = {"guidance": 3.0}


def flags_of(data_dir, **changes):
    fields = SIZES | {"data_dir": data_dir} | changes
    return [f"--{name}={value}" for name, value in fields.items()]


@pytest.fixture(scope="module")
def run(data_dir, compiled_once, tmp_path_factory):
    """The workdir of a run of two steps."""
    workdir = tmp_path_factory.mktemp("run")
    config = making.preset_config(**SIZES | {"data_dir": str(data_dir), "num_steps": 2})
    loop.train(config, workdir)
    return workdir


@pytest.fixture(scope="module")
def model(run):
    return flowvid.load(run)


@pytest.fixture(scope="module")
def given():
    """Arguments of `Model.sample` to continue two clips."""
    labels = np.array([0, 1])
    return {
        "first_frames": np.zeros((2, 2, 16, 16, 3), np.uint8),
        "labels": labels,
        "num_frames": 5,
    }


def test_bits_are_those_of_discrete_frames_whatever_the_seed(run, call):
    bits = []
    for seed in (0, 1):
        latent = f"--latent_label_videos={3 * seed}"
        code, printed, _ = call("evaluate", f"--workdir={run}", f"--seed={seed}", latent)
        assert code == 0
        assert "bits of the discrete frames, without noise" in printed
        report = json.loads((run / "evaluation.json").read_text())
        assert list(report["metrics"]) == ["5-bit", "8-bit"]
        assert report["metrics"]["5-bit"]["importance_weighted"] is None
        for line in ("labels, from first frames: ", "labels, from whole videos: "):
            assert line in printed
        bits.append([report["metrics"]["5-bit"][part]["bits_per_dim"] for part in ("head", "tail")])
        finer = [report["metrics"]["8-bit"][part]["bits_per_dim"] for part in ("head", "tail")]
        np.testing.assert_allclose(finer, np.array(bits[-1]) + 3, rtol=1e-6)  # 3 bits within a bin
        assert ("the same, what the tail is told latent: " in printed) == (seed == 1)
    np.testing.assert_allclose(*bits, rtol=1e-5)
    told, latent = report["video_labels"], report["latent_labels"]
    assert latent["videos"] == told["videos"]
    shares = latent["shares"]
    assert len(shares) == 8
    assert set(latent["per_label"]) <= set(shares)
    for label, of_label in shares.items():
        assert sum(of_label.values()) == pytest.approx(1)
        assert max(of_label, key=of_label.get) == label  # the prior: the clips tell nothing yet
    with np.load(run / "evaluation.npz") as per_video:
        assert per_video["latent_labels"].mean() == pytest.approx(latent["bits_per_video"])


def test_the_metric_without_bins_is_refused(run, call):
    code, _, err = call("evaluate", f"--workdir={run}", "--metrics=5-bit,paper")
    assert code == 1
    assert "metric 'paper' does not have the 5-bit bins that --flow=mixture models" in err


def test_bits_of_8_bit_frames_are_three_more(model):
    # First frames and the head alone: the tail would be traced for nothing.
    batch = joint.blank_batch(model.config)
    batch, of_head = batch._replace(video=batch.video[:, :1]), {"head": model.params["head"]}

    @functools.partial(jax.jit, static_argnums=0)
    def bits_of_first(metric, params, batch):
        return joint.eval_step(model.config, metric, 0, params, batch).head

    five, eight = (bits_of_first(METRICS[name], of_head, batch) for name in ("5-bit", "8-bit"))
    np.testing.assert_allclose(eight, five + 3, rtol=1e-5)


def test_rollouts_are_measured(run, call, tmp_path):
    args = ("--given=2", "--videos=2", "--samples=2", "--temperature=0.5", f"--out={tmp_path}")
    code, printed, _ = call("experiments.rollouts", f"--runs={run}", *args)
    assert code == 0
    for expected in ("PSNR, best of samples", "objects kept", "static median", "+1"):
        assert expected in printed
    rows = json.loads((tmp_path / "rollouts.json").read_text())["rows"]
    assert set(rows) == {str(run), "hold the last frame", "static median"}
    assert all(len(row["psnr_best"]["mean"]) == 3 for row in rows.values())
    best, mean = (rows[str(run)][key]["mean"] for key in ("psnr_best", "psnr_mean"))
    assert np.all(np.array(best) >= np.array(mean))
    pictures = [iio.imread(tmp_path / name) for name in ("sheet_0.png", "curves.png")]
    assert all(picture.ndim == 3 for picture in pictures)
    code, _, err = call("experiments.rollouts", f"--runs={run}", "--given=5", f"--out={tmp_path}")
    assert code == 1
    assert "--given=5 leaves none of the 5 frames" in err


def test_continuations_are_cool_by_default(model, given):
    videos = model.sample(**given).videos
    np.testing.assert_array_equal(videos, model.sample(**given, temperature=0.4).videos)
    assert np.any(videos != model.sample(**given, temperature=1.0).videos)
    np.testing.assert_array_equal(videos[:, 2:] % 8, 4)  # the middles of 5-bit bins


def test_first_frames_are_guided_by_default(model):
    first = [model.sample(2, num_frames=1, **how).videos for how in ({}, GUIDED, {"guidance": 9.0})]
    np.testing.assert_array_equal(first[0], first[1])
    assert np.any(first[0] != first[2])


def test_continuations_are_guided_only_where_it_is_asked_for(model, given, perturbed):
    # Two steps have not taught the tail what labels say.
    params = {**model.params, "tail": perturbed(model.params["tail"], 0.3)}
    louder = dataclasses.replace(model, params=params)
    plain, guided = (louder.sample(**given, **how).videos for how in ({}, GUIDED))
    assert np.any(guided != plain)


def test_each_level_has_a_temperature(run, model, call, tmp_path):
    args = ("--num_frames=1", "--num_videos=2", "--guidance=3", "--temperature=0.5,1")
    code, _, _ = call("sample", f"--workdir={run}", f"--out={tmp_path}", *args)
    assert code == 0
    cool_details = model.sample(2, num_frames=1, temperature=[0.5, 1.0], **GUIDED).videos
    np.testing.assert_array_equal(iio.imread(tmp_path / "000.png"), cool_details[0, 0])
    assert np.any(cool_details != model.sample(2, num_frames=1).videos)


def test_a_past_is_imagined_for_a_single_frame_alone(model, given, perturbed, monkeypatch):
    params = {**model.params, "tail": perturbed(model.params["tail"], 0.3)}
    louder = dataclasses.replace(model, params=params)
    single = given | {"first_frames": given["first_frames"][:, :1]}
    with_past, seen = sampling._with_past, []

    def counted(config, params, keys, state, labels):
        seen.append(len(labels))
        return with_past(config, params, keys, state, labels)

    monkeypatch.setattr(sampling, "_with_past", counted)
    louder.sample(**given)
    assert not seen
    found = louder.sample(**single)
    louder.sample(3, num_frames=2)
    assert seen == [2, 3]
    monkeypatch.setattr(sampling, "_with_past", lambda config, params, keys, state, labels: state)
    without = louder.sample(**single)
    np.testing.assert_array_equal(found.videos[:, 0], without.videos[:, 0])
    assert np.any(found.videos != without.videos)


@pytest.mark.parametrize("flag", ["--temperature=1,warm", "--temperature=-1"])
def test_temperatures_that_are_none_are_refused(run, call, flag):
    code, _, err = call("sample", f"--workdir={run}", flag)
    assert code == 1
    assert "use a" in err


def test_a_resumed_run_ends_as_an_uninterrupted_one(run, data_dir, call, tmp_path):
    resumed, straight = tmp_path / "resumed", tmp_path / "straight"
    shutil.copytree(run, resumed)
    for folder in (resumed, straight):
        code, printed, _ = call("train", f"--workdir={folder}", *flags_of(data_dir, num_steps=4))
        assert code == 0
        assert "is trained to step 4" in printed
    assert_same(saved(resumed, 4), saved(straight, 4))
