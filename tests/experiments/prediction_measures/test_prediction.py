"""Predictions of a tiny run, by command: the numbers, the files, what is refused, and resuming."""

import dataclasses
import json

import imageio.v3 as iio
import numpy as np
import onnx_networks
import pytest
from command_line import assert_one_line

import flowvid
from experiments.gan_comparison.feature_metrics import frechet_distance
from experiments.prediction_measures import prediction, result_files
from experiments.prediction_measures.continuations import Continuations, measure_all
from experiments.running import finished_runs, frame_measures
from flowvid.errors import ConfigError
from flowvid.evaluation import scoring
from flowvid.evaluation.partial_results import PartialResults

pytest_plugins = ["system_fixtures", "command_line"]

GIVEN, SAMPLES, CLIPS, LATER = 2, 3, 5, 3
FEW = (f"--given={GIVEN}", f"--samples={SAMPLES}", "--batch_size=2", "--temperature=0.8")


@pytest.fixture(scope="module")
def sampled(run_of):
    """The continuations that the command draws, all of them [V, S, T, H, W, 3], and the clips."""
    model = flowvid.load(run_of("state_label"))
    split = finished_runs.load_split(model.config, "validation")
    continuations = Continuations(model, GIVEN, SAMPLES, 2, 0.8, 0)
    videos = [
        np.concatenate(list(continuations.parts(split[i]["video"], int(split[i]["label"]), i)))
        for i in range(CLIPS)
    ]
    return continuations, np.stack(videos), split


def psnr_of(real, videos):
    squares = (videos[..., GIVEN:, :, :, :].astype(float) - real[..., GIVEN:, :, :, :]) ** 2
    return 10 * np.log10(255**2 / squares.mean(axis=(-3, -2, -1)))


def test_every_number_is_that_of_the_samples(run_of, sampled, call, tmp_path):
    _, videos, split = sampled
    lpips = onnx_networks.write_distance(tmp_path / "lpips.onnx")
    features = onnx_networks.write_features(tmp_path / "mine.onnx")
    out = tmp_path / "out"
    args = (*FEW, "--num_videos=9", f"--lpips={lpips}", f"--features={features}", f"--out={out}")
    code, printed, err = call("experiments.prediction", f"--run={run_of('state_label')}", *args)
    assert code == 0, err
    for expected in (
        "3 samples of each of 5 clips of moving_shapes validation, 2 frames given, 3 predicted",
        "PSNR (dB), best sample",
        "SSIM, mean of samples",
        "LPIPS, best sample",
        "hold the last frame",
        "Fréchet distance of mine.onnx, of whole clips to 5 real ones",
        "(15 clips)",
    ):
        assert expected in printed
    report = json.loads((out / "prediction.json").read_text(encoding="utf-8"))
    assert report["table"] in printed
    assert report["command"].startswith("python -m experiments.prediction --run=")
    assert report["settings"]["samples"] == SAMPLES
    assert len(report["settings"]["lpips"]["sha256"]) == 64
    real = np.stack([split[i]["video"] for i in range(CLIPS)])
    rows = report["rows"]
    assert set(rows) == {"model", "hold the last frame", "static median"}

    psnr = psnr_of(real[:, None], videos)  # [V, S, L]
    best = np.stack([clip[clip.mean(axis=1).argmax()] for clip in psnr])
    np.testing.assert_allclose(rows["model"]["psnr"]["best"]["mean"], best.mean(0), rtol=1e-5)
    mean = psnr.mean(axis=(0, 1))
    np.testing.assert_allclose(rows["model"]["psnr"]["mean"]["mean"], mean, rtol=1e-5)
    held = np.repeat(real[:, GIVEN - 1 : GIVEN], real.shape[1], axis=1)
    of_held = rows["hold the last frame"]["psnr"]
    np.testing.assert_allclose(of_held["best"]["mean"], psnr_of(real, held).mean(0), rtol=1e-5)
    assert of_held["best"] == of_held["mean"]
    gap = np.abs(videos[:, :, GIVEN:].astype(float) - real[:, None, GIVEN:]) / 127.5
    distances = gap.mean(axis=(3, 4, 5))
    nearest = np.stack([clip[clip.mean(axis=1).argmin()] for clip in distances])
    np.testing.assert_allclose(rows["model"]["lpips"]["best"]["mean"], nearest.mean(0), rtol=1e-5)
    ssim = frame_measures.ssim(real[0, GIVEN:], videos[0, 0, GIVEN:])
    assert ssim.shape == (LATER,)
    assert np.all(np.abs(rows["model"]["ssim"]["best"]["mean"]) <= 1)

    of_real, of_samples = (x.mean(axis=(-4, -3, -2)) / 127.5 - 1 for x in (real, videos))
    distance = report["frechet"]["distance"]
    expected = frechet_distance(of_samples.reshape(-1, 3), of_real)
    assert distance["model"] == pytest.approx(expected, rel=1e-3)
    assert set(distance) == set(rows)
    assert iio.imread(out / "curves.png").ndim == iio.imread(out / "samples.png").ndim == 3
    assert not (out / "unfinished_prediction").exists()


def test_without_a_network_the_features_are_a_classifiers(run_of, call, tmp_path):
    args = (*FEW, "--num_videos=2", "--classifier_steps=1", f"--out={tmp_path}")
    code, printed, _ = call("experiments.prediction", f"--run={run_of('state_label')}", *args)
    assert code == 0
    assert "Fréchet distance of a classifier of this dataset's clips" in printed
    assert "LPIPS" not in printed
    assert "FVD" not in printed
    report = json.loads((tmp_path / "prediction.json").read_text(encoding="utf-8"))
    assert report["frechet"]["real_clips"] == 2
    assert report["frechet"]["clips"]["model"] == 2 * SAMPLES
    assert report["frechet"]["distance"]["model"] >= 0
    saved = result_files.read(tmp_path)
    assert (saved.table, saved.dataset) == (report["table"], "moving_shapes")


def test_a_single_clip_has_no_distribution(run_of, call):
    run = run_of("state_label")
    code, printed, _ = call("experiments.prediction", f"--run={run}", *FEW, "--num_videos=1")
    assert code == 0
    assert "no Fréchet distance: a single clip has no distribution" in printed
    report = json.loads((run / "prediction" / "prediction.json").read_text(encoding="utf-8"))
    assert report["rows"]["model"]["psnr"]["best"]["stderr"] is None


def test_a_single_label_trains_no_classifier(sampled):
    _, _, split = sampled
    asked = prediction.Asked("last", None, None, 2, 3, None, 0, 2, None, None, 1)
    found = prediction._features(asked, dataclasses.replace(split, label_names=("all",)), CLIPS)
    assert found.of is None
    assert "without two labels no classifier can be trained: give --features" in found.title


def test_what_cannot_be_measured_is_refused(run_of, call, tmp_path):
    args = (f"--run={run_of('state_label')}", f"--out={tmp_path}")
    for flag, message in (
        ("--given=5", "--given=5 leaves none of the 5 frames of a clip to predict: give fewer."),
        ("--split=test", "no examples in split 'test'"),
        (f"--lpips={tmp_path / 'none.onnx'}", "is not an ONNX file that onnxruntime can open"),
    ):
        few = [*FEW, "--classifier_steps=0"]
        assert_one_line(call("experiments.prediction", *args, *few, flag), message)


def test_a_run_of_the_head_alone_predicts_nothing(sampled, tiny):
    images = tiny(num_frames=1, tail_frames=None, variant="prev_frame")
    model = dataclasses.replace(sampled[0].model, config=images)
    with pytest.raises(ConfigError, match="has no tail for continuations"):
        prediction._check(model, 1)


def test_small_frames_have_no_ssim(run_of, call, monkeypatch, tmp_path):
    monkeypatch.setattr(frame_measures, "SSIM_WINDOW", 17)
    args = (f"--run={run_of('state_label')}", f"--out={tmp_path}", *FEW)
    found = call("experiments.prediction", *args)
    assert_one_line(found, "frames are 16x16, but SSIM needs at least 17x17")


def test_samples_that_are_not_finite_are_refused(sampled, monkeypatch):
    continuations, _, split = sampled
    sample = type(continuations.model).sample

    def broken(self, **how):
        found = sample(self, **how)
        return found._replace(finite=np.array([True, False]))

    monkeypatch.setattr(type(continuations.model), "sample", broken)
    with pytest.raises(ConfigError, match="1 samples of clip 3 are not finite"):
        continuations.part(split[3]["video"], int(split[3]["label"]), 3, 0)


def test_parts_of_samples_differ_and_come_again(sampled):
    continuations, videos, split = sampled
    assert videos.shape[:2] == (CLIPS, SAMPLES)
    np.testing.assert_array_equal(videos[:, :, :GIVEN], videos[:, :1, :GIVEN].repeat(SAMPLES, 1))
    flat = videos[:, :, GIVEN:].reshape(CLIPS, SAMPLES, -1)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.any(flat[:, one] != flat[:, other])
    again = continuations.sample(split[1]["video"], int(split[1]["label"]), 1, 2)
    np.testing.assert_array_equal(again, videos[1, 2])


def test_an_interrupted_measurement_resumes(sampled, monkeypatch, tmp_path):
    continuations, videos, split = sampled
    drawn = []

    def part(self, clip, label, number, part):
        if len(drawn) == stop:
            raise KeyboardInterrupt
        drawn.append((number, part))
        return videos[number, 2 * part : 2 * part + 2]

    monkeypatch.setattr(Continuations, "part", part)
    monkeypatch.setattr(scoring, "_SAVE_EVERY", -1.0)
    measures = {"psnr": frame_measures.psnr}
    task = (continuations, split, CLIPS, measures, lambda clips: clips.mean(axis=(1, 2, 3)))
    stop = None
    whole = measure_all(*task, PartialResults(tmp_path / "whole", {}))
    in_order = [(number, part) for number in range(CLIPS) for part in range(2)]
    assert drawn == in_order
    assert whole["samples/psnr"].shape == (CLIPS, SAMPLES, LATER)
    assert whole["baselines/psnr"].shape == (CLIPS, 2, LATER)
    assert whole["samples/features"].shape == (CLIPS, SAMPLES, 3)

    kept = PartialResults(tmp_path / "kept", {})
    drawn, stop = [], 7  # in the fourth clip; clips are kept two by two, one for each device
    with pytest.raises(KeyboardInterrupt):
        measure_all(*task, kept)
    drawn, stop = [], None
    resumed = measure_all(*task, kept)
    assert drawn == in_order[4:]
    for name, values in whole.items():
        np.testing.assert_array_equal(values, resumed[name])
