"""Runs on video datasets of TFDS: the commands train, evaluate, show and continue them."""

import dataclasses
import json

import pytest
from helpers import TINY
from video_sets import ACTIONS

import flowvid
from flowvid.config import config_file
from flowvid.config.dataset_names import say_once
from flowvid.config.making import preset_config

pytest_plugins = ["command_line", "video_sets"]

BAIR = "bair_robot_pushing_small"
SIZES = TINY | {"num_steps": 2, "eval_every": 2, "variant": "state_label"}


def succeed(call, *command):
    """What a command that succeeds prints."""
    say_once.cache_clear()
    code, printed, err = call(*command)
    assert code == 0, err
    return printed


def train(call, video_sets, workdir, **changes):
    """Trains two steps by command, and returns what it prints."""
    fields = SIZES | {"data_dir": video_sets, "workdir": workdir} | changes
    args = [f"--{name}={value}" for name, value in fields.items()]
    printed = succeed(call, "train", *args)
    assert f"{workdir} is trained to step 2" in printed
    return printed


def test_a_run_keeps_its_camera(video_sets, call, tmp_path):
    workdir = tmp_path / "run"
    aux = {"video_feature": "image_aux1", "variant": "prev_frame"}
    printed = train(call, video_sets, workdir, dataset=BAIR, **aux)
    assert "the video is image_aux1; --video_feature can be image_main, too." in printed
    model = flowvid.load(workdir)
    assert model.config.video_feature == "image_aux1"
    assert model.label_names == ("unlabelled",)
    given = ("--noise_draws=1", "--metrics=5-bit", "--split=test")
    for flags, camera in (((), "image_aux1"), (("--video_feature=image_main",), "image_main")):
        out = tmp_path / camera
        evaluate = ("evaluate", f"--workdir={workdir}", f"--out={out}", *given, *flags)
        assert f"the video is {camera};" in succeed(call, *evaluate)
        report = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
        assert report["num_videos"] == 2
    continued = ("--first_frames=validation", "--num_videos=1", f"--out={tmp_path / 'out'}")
    succeed(call, "sample", f"--workdir={workdir}", *continued)
    code, _, err = call("train", f"--workdir={workdir}", "--video_feature=image_main")
    assert code == 1
    assert "--video_feature=image_main (the run has image_aux1)" in err


def test_a_run_has_the_labels_of_the_dataset(video_sets, call, tmp_path):
    workdir = tmp_path / "run"
    printed = train(call, video_sets, workdir, dataset="ucf101")
    assert "1 of 11 clips have fewer than 5 frames and are left out." in printed
    assert flowvid.load(workdir).label_names == tuple(ACTIONS)
    evaluate = ("evaluate", f"--workdir={workdir}", "--noise_draws=1", "--metrics=5-bit")
    succeed(call, *evaluate, "--label_videos=1")
    report = json.loads((workdir / "evaluation.json").read_text(encoding="utf-8"))
    assert (report["dataset"], report["num_videos"]) == ("ucf101", 1)
    code, _, err = call(*evaluate, "--label_feature=none")
    assert code == 1
    assert "1 labels of ucf101 differ from the 101 labels" in err


def test_runs_from_before_there_was_a_flag_are_read(monkeypatch):
    later = {"video_feature": None, "label_feature": None}
    monkeypatch.setattr(config_file, "LATER_FIELDS", later)
    of_flow = {"mixture": {"components": 4}}
    monkeypatch.setattr(config_file, "LATER_SETTINGS", of_flow)
    config = preset_config("small")
    saved = config_file.to_dict(config, ("unlabelled",))
    del saved["video_feature"], saved["label_feature"]
    del saved["flow_settings"]["components"]
    found, names = config_file.from_dict(saved)
    assert names == ("unlabelled",)
    assert found.flow_settings.components == 4
    settings = dataclasses.replace(found.flow_settings, components=5)
    assert dataclasses.replace(found, flow_settings=settings) == config


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((f"--dataset={BAIR}",), "train: 6 clips of 6 frames at 64x64"),
        (("--dataset=moving_mnist", "--split=test"), "test: 1 clips of 20 frames at 64x64"),
        (("--dataset=ucf101", "--num_frames=5"), "Action100"),
        (("--dataset=ucf101", "--num_frames=5", "--label_feature=none"), "unlabelled"),
        ((f"--dataset={BAIR}", "--video_feature=image_aux1"), "the video is image_aux1;"),
    ],
)
def test_preview_shows_them(video_sets, call, tmp_path, flags, expected):
    args = (f"--data_dir={video_sets}", f"--out={tmp_path / 'out'}", *flags)
    assert expected in succeed(call, "preview", *args)
    assert (tmp_path / "out/samples.gif").exists()
