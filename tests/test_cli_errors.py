"""The command line: an error is one line that says what to do."""

import importlib
import sys

import numpy as np
import pytest
from absl import flags
from command_line import assert_one_line, finish, start
from trained_by_command import train_args

from experiments import run_report
from flowvid import cli
from flowvid.data import media

pytest_plugins = ["trained_by_command"]


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("train", ["--dataset=moments_in_time", "--data_dir={empty}"], "tfds build data_builders"),
        ("train", ["--dataset=moving_shape"], "Unknown dataset 'moving_shape'; use moving_shapes"),
        ("train", ["--dataset={empty}"], "holds no clips and no images. Expected are clips (.mp4"),
        ("train", ["--dataset={empty}/missing"], "missing does not exist. Expected are clips"),
        ("train", ["--image_size=17"], "--image_size=17 must be divisible by 2^levels = 2"),
        ("train", ["--batch_size=3"], "--batch_size=3 is not divisible by 2 devices"),
        ("train", ["--workdir={run}", "--width=16"], "--width=16 (the run has 8)"),
        ("train", ["stray"], "unexpected argument 'stray'"),
        (
            "train",
            ["--workdir={bad}"],
            "bad.mp4 cannot be written to (File exists): use",
        ),
        ("train", ["--data_dir={bad}"], "Not a directory"),
        ("evaluate", ["--workdir={run}", "--metrics=6-bit"], "unknown metric '6-bit': use some of"),
        ("evaluate", ["--workdir={run}", "--dataset={empty}"], "holds no clips and no images"),
        ("evaluate", ["--workdir={run}", "--num_videos=6"], "Asked for 6 videos"),
        (
            "sample",
            ["--workdir={run}", "--label=bouncing"],
            "Unknown label 'bouncing'; the",
        ),
        ("sample", ["--workdir={run}", "--first_frames={bad}"], "bad.mp4: not readable as video"),
        (
            "sample",
            ["--workdir={run}", "--temperature=nan"],
            "temperature=nan: use a finite number",
        ),
        (
            "sample",
            ["--workdir={run}", "--first_frames={image}", "--num_given=2"],
            "image.png: 1 frame, but 2 are needed",
        ),
        ("sample", ["--workdir={empty}"], "holds no run: train one with"),
        ("sample", ["--workdir={run}", "--num_given=2"], "--num_given goes with --first_frames"),
        (
            "sample",
            ["--workdir={run}", "--num_videos=1", "--out={bad}"],
            "bad.mp4 cannot be written to (File exists): use",
        ),
        (
            "train",
            ["--dataset={images}", "--num_frames=5"],
            "1 frames per video, but 5 were asked for",
        ),
        ("train", ["--num_frames=1", "--tail_frames=2"], "cannot be drawn from the 0 that follow"),
        (
            "sample",
            ["--workdir={image_run}", "--first_frames=validation"],
            "this run is of the head alone (--num_frames=1) and has no tail for --first_frames",
        ),
        (
            "sample",
            ["--workdir={image_run}", "--num_frames=2"],
            "has no tail for 2 frames per video: use a run trained on videos",
        ),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(
    trained, trained_on_images, image_dir, call, data_dir, tmp_path, name, args, message
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.mp4").write_text("not a video")
    places = {
        "run": trained[0],
        "image_run": trained_on_images[0],
        "images": image_dir,
        "empty": tmp_path / "empty",
        "bad": tmp_path / "bad.mp4",
        "image": tmp_path / "image.png",
    }
    media.write_image(places["image"], np.zeros((8, 8, 3), np.uint8))
    args = [arg.format(**places) for arg in args]
    if name == "train":
        args = [*train_args(data_dir, workdir=tmp_path / "new"), *args]
    assert_one_line(call(name, *args), message)
    assert not (tmp_path / "new" / "checkpoints").exists()


def test_errors_of_real_processes_are_alike(tmp_path):
    evaluate = start("evaluate", f"--workdir={tmp_path}")
    sample = start("sample", "--workdir=anywhere", "stray")
    for process, message in ((evaluate, "holds no run"), (sample, "unexpected argument 'stray'")):
        code, out, err = finish(process)
        assert_one_line((code, out, err), message)
        assert (out, len(err.splitlines())) == ("", 1)


@pytest.mark.parametrize(
    ("name", "args", "missing", "message"),
    [
        ("score", [], "matplotlib", "pictures need Matplotlib: run `pip install 'flowvid[exp"),
        ("experiments.anomaly", ["--other=b"], "matplotlib", "pictures need Matplotlib: run"),
        ("experiments.obedience", [], "matplotlib", "pictures need Matplotlib: run"),
        ("experiments.report", [], "jinja2", "this needs jinja2: run `pip install 'flowvid[exp"),
    ],
)
def test_a_missing_extra_is_named_before_any_work(
    call, monkeypatch, tmp_path, name, args, missing, message
):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "experiments.run_report.page", raising=False)
    monkeypatch.delattr(run_report, "page", raising=False)
    folder = "run" if name in ("experiments.anomaly", "experiments.obedience") else "workdir"
    assert_one_line(call(name, f"--{folder}={tmp_path}", *args), message)


def test_a_module_that_no_extra_has_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sample"])
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        cli.run(lambda: importlib.import_module("no_such_module"))
    flags.FLAGS.unparse_flags()
