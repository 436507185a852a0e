"""A run with the mixture flow and the U-Net encoder, on two devices, from training to use."""

import dataclasses
import functools
import json

import imageio.v3 as iio
import jax
import numpy as np
import pytest
from helpers import TINY, assert_same, saved

import flowvid
from flowvid.config.metrics import METRICS
from flowvid.video import joint

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


@pytest.mark.usefixtures("compiled_once")
def test_it_trains_evaluates_continues_is_measured_and_resumes(data_dir, tmp_path, call, perturbed):
    workdir, out = tmp_path / "run", tmp_path / "rollouts"
    code, printed, _ = call("train", f"--workdir={workdir}", *flags_of(data_dir, num_steps=2))
    assert code == 0
    assert "is trained to step 2" in printed

    code, _, err = call("evaluate", f"--workdir={workdir}", "--metrics=5-bit,paper")
    assert code == 1
    assert "metric 'paper' does not have the 5-bit bins that --flow=mixture models" in err
    bits = []
    for seed in (0, 1):
        code, printed, _ = call("evaluate", f"--workdir={workdir}", f"--seed={seed}")
        assert code == 0
        assert "bits of the discrete frames, without noise" in printed
        report = json.loads((workdir / "evaluation.json").read_text())
        assert list(report["metrics"]) == ["5-bit", "8-bit"]
        assert report["metrics"]["5-bit"]["importance_weighted"] is None
        for line in ("labels, from first frames: ", "labels, from whole videos: "):
            assert line in printed
        bits.append([report["metrics"]["5-bit"][part]["bits_per_dim"] for part in ("head", "tail")])
        finer = [report["metrics"]["8-bit"][part]["bits_per_dim"] for part in ("head", "tail")]
        np.testing.assert_allclose(finer, np.array(bits[-1]) + 3, rtol=1e-6)  # 3 bits within a bin
    np.testing.assert_allclose(*bits, rtol=1e-5)

    args = ("--given=2", "--videos=2", "--samples=2", "--temperature=0.5", f"--out={out}")
    code, printed, _ = call("experiments.rollouts", f"--runs={workdir}", *args)
    assert code == 0
    for expected in ("PSNR, best of samples", "objects kept", "static median", "+1"):
        assert expected in printed
    rows = json.loads((out / "rollouts.json").read_text())["rows"]
    assert set(rows) == {str(workdir), "hold the last frame", "static median"}
    assert all(len(row["psnr_best"]["mean"]) == 3 for row in rows.values())
    best, mean = (rows[str(workdir)][key]["mean"] for key in ("psnr_best", "psnr_mean"))
    assert np.all(np.array(best) >= np.array(mean))
    assert iio.imread(out / "sheet_0.png").ndim == iio.imread(out / "curves.png").ndim == 3
    code, _, err = call("experiments.rollouts", f"--runs={workdir}", "--given=5", f"--out={out}")
    assert code == 1
    assert "--given=5 leaves none of the 5 frames" in err

    model = flowvid.load(workdir)
    # First frames and the head alone: the tail would be traced for nothing.
    batch = joint.blank_batch(model.config)
    batch, of_head = batch._replace(video=batch.video[:, :1]), {"head": model.params["head"]}

    @functools.partial(jax.jit, static_argnums=0)
    def bits_of_first(metric, params, batch):
        return joint.eval_step(model.config, metric, 0, params, batch).head

    five, eight = (bits_of_first(METRICS[name], of_head, batch) for name in ("5-bit", "8-bit"))
    np.testing.assert_allclose(eight, five + 3, rtol=1e-5)

    given, labels = np.zeros((2, 2, 16, 16, 3), np.uint8), np.array([0, 1])
    given_labels = {"first_frames": given, "labels": labels, "num_frames": 5}
    videos = model.sample(**given_labels).videos
    cool = model.sample(**given_labels, temperature=0.4).videos
    np.testing.assert_array_equal(videos, cool)  # by default
    warm = model.sample(**given_labels, temperature=1.0).videos
    assert np.any(videos != warm)
    np.testing.assert_array_equal(videos[:, 2:] % 8, 4)  # the middles of 5-bit bins

    # From nothing, guided towards the label by default.
    first = [model.sample(2, num_frames=1, **how).videos for how in ({}, GUIDED, {"guidance": 9.0})]
    np.testing.assert_array_equal(first[0], first[1])
    assert np.any(first[0] != first[2])
    args = ("--num_frames=1", "--num_videos=2", "--guidance=3", "--temperature=0.5,1")
    code, _, _ = call("sample", f"--workdir={workdir}", f"--out={out}", *args)
    assert code == 0
    cool_details = model.sample(2, num_frames=1, temperature=[0.5, 1], **GUIDED).videos
    np.testing.assert_array_equal(iio.imread(out / "000.png"), cool_details[0, 0])
    assert np.any(cool_details != first[0])
    # The tail is not guided by default. Two steps have not taught it what labels say.
    louder = {**model.params, "tail": perturbed(model.params["tail"], 0.3)}
    louder = dataclasses.replace(model, params=louder)
    plain, guided = (louder.sample(**given_labels, **how).videos for how in ({}, GUIDED))
    assert np.any(guided != plain)
    for flag in ("--temperature=1,warm", "--temperature=-1"):
        code, _, err = call("sample", f"--workdir={workdir}", flag)
        assert code == 1
        assert "use a" in err

    # Resumed, it ends with the bits of an uninterrupted run.
    straight = tmp_path / "straight"
    for folder in (workdir, straight):
        code, _, _ = call("train", f"--workdir={folder}", *flags_of(data_dir, num_steps=4))
        assert code == 0
    assert_same(saved(workdir, 4), saved(straight, 4))
