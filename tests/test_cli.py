"""The command line: train, evaluate and sample end to end, and errors that are one line."""

import json
import re

import imageio.v3 as iio
import numpy as np
import pytest
from command_line import assert_one_line, finish, start
from helpers import TINY

from flowvid.data import decoding, media
from flowvid.paths import MARKER

pytest_plugins = ["system_fixtures", "command_line"]

# Other tools call these: they stay.
FIXED_FLAGS = {
    "train": "variant preset dataset data_dir workdir num_steps batch_size learning_rate "
    "warmup_steps eval_every num_frames image_size n_bits dequantization coupling tail_steps "
    "tail_frames seed",
    "evaluate": "workdir dataset data_dir num_videos metrics seed",
    "sample": "workdir label num_videos num_frames temperature first_frames format out seed",
}


def train_args(data_dir, **changes):
    """Flags of a tiny run; None leaves a flag out."""
    fields = {**TINY, "variant": "state_label", "data_dir": data_dir, **changes}
    return [f"--{name}={value}" for name, value in fields.items() if value is not None]


@pytest.fixture(scope="session")
def trained(data_dir, tmp_path_factory):
    """The workdir of a run that the command line has trained, and what it printed."""
    workdir = tmp_path_factory.mktemp("command_line") / "run"
    code, out, err = finish(start("train", *train_args(data_dir, workdir=workdir)))
    assert code == 0, err
    return workdir, out


# The way of a run.


def test_train_makes_a_run_and_says_what_is_next(trained):
    workdir, out = trained
    assert f"{workdir} is trained to step 4." in out
    assert f"python -m flowvid.evaluate --workdir={workdir}" in out
    assert json.loads((workdir / "config.json").read_text())["variant"] == "state_label"
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"0", "2", "4"}
    assert len(list(workdir.glob("events.out.tfevents.*"))) == 1


def test_the_same_command_goes_on(trained, call, data_dir):
    workdir, _ = trained
    code, out, _ = call("train", *train_args(data_dir, workdir=workdir))
    assert code == 0
    assert f"Resuming from step 4 of {workdir}." in out
    assert f"{workdir} is trained to step 4." in out
    code, out, _ = call("train", f"--workdir={workdir}", "--num_steps=5")
    assert code == 0
    assert f"{workdir} is trained to step 5." in out


def test_evaluate_prints_and_writes_the_report(trained):
    workdir, _ = trained
    code, out, err = finish(start("evaluate", f"--workdir={workdir}", "--num_videos=3"))
    assert code == 0, err
    assert "5-bit metric" in out
    assert "paper metric" in out
    report = json.loads((workdir / "evaluation.json").read_text())
    assert report["variant"] == "state_label"
    assert report["num_videos"] == 3
    assert set(report["metrics"]) == {"5-bit", "8-bit", "paper"}
    for result in report["metrics"].values():
        assert f"{result['head']['bits_per_dim']:.4f}" in out
        assert f"{result['tail']['bits_per_dim']:.4f}" in out


def test_sample_draws_a_label(trained, tmp_path):
    workdir, _ = trained
    args = (f"--workdir={workdir}", "--label=bounce", "--num_videos=2", "--format=mp4")
    code, out, err = finish(start("sample", *args, "--num_frames=4", f"--out={tmp_path}"))
    assert code == 0, err
    assert f"2 videos and the contact sheet samples.png are in {tmp_path}." in out
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"000.mp4", "001.mp4", "samples.png", MARKER}
    assert decoding.read_clip(tmp_path / "000.mp4", None, 16).shape == (4, 16, 16, 3)


def test_sample_continues_held_out_clips(trained, call):
    workdir, _ = trained
    args = (f"--workdir={workdir}", "--first_frames=validation", "--num_given=2", "--num_frames=6")
    code, _, _ = call("sample", *args, "--num_videos=2")  # one frame more than the clips go on
    assert code == 0
    folder = workdir / "continued"
    names = {path.name for path in folder.iterdir()}
    assert names == {"000.gif", "001.gif", "samples.png", MARKER}
    assert len(decoding.read_clip(folder / "001.gif", None, 16)) == 6


def test_sample_continues_a_clip_and_ignores_a_label(trained, call, tmp_path, caplog):
    workdir, _ = trained
    clip = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    media.write_video(tmp_path / "clip.mp4", clip)
    args = (f"--workdir={workdir}", f"--first_frames={tmp_path}/clip.mp4", "--num_given=2")
    code, _, _ = call(
        "sample", *args, "--num_videos=2", "--num_frames=4", "--label=roll", f"--out={tmp_path}"
    )
    assert code == 0
    assert (
        "--label=roll is ignored: labels condition the first frame, which is given" in caplog.text
    )
    assert {path.name for path in tmp_path.glob("0*")} == {"000.gif", "001.gif"}
    given = decoding.read_clip(tmp_path / "clip.mp4", 2, 16)
    continued = decoding.read_clip(tmp_path / "001.gif", 2, 16)
    assert np.abs(given.astype(int) - continued).mean() < 16  # a GIF has 256 colours


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_sample_continues_an_image(trained, call, tmp_path, ending):
    workdir, _ = trained
    media.write_image(tmp_path / f"first{ending}", np.full((32, 32, 3), 90, np.uint8))
    args = (f"--workdir={workdir}", f"--first_frames={tmp_path}/first{ending}", "--num_videos=1")
    code, _, err = call("sample", *args, "--num_frames=2", f"--out={tmp_path}")
    assert code == 0, err
    video = decoding.read_clip(tmp_path / "000.gif", None, 16)
    assert len(video) == 2
    assert np.abs(video[0].astype(int) - 90).max() <= 3


# Single images.


@pytest.fixture(scope="session")
def image_args(image_dir):
    """Flags of a run on single images, which do not say how many frames."""
    changes = {"variant": "prev_frame", "dataset": image_dir, "num_frames": None}
    return train_args(None, tail_frames=None, **changes)


@pytest.fixture(scope="session")
def trained_on_images(image_args, tmp_path_factory):
    """The workdir of a run on images that the command line has trained, and what it printed."""
    workdir = tmp_path_factory.mktemp("images_command_line") / "run"
    code, out, err = finish(start("train", *image_args, f"--workdir={workdir}"))
    assert code == 0, err
    return workdir, out


def test_images_train_the_head_alone_without_being_told(
    trained_on_images, image_args, image_dir, call
):
    workdir, out = trained_on_images
    assert f"{image_dir} holds single images: --num_frames=1, the head alone is trained." in out
    assert "head: " in out
    assert "tail: " not in out
    assert json.loads((workdir / "config.json").read_text())["num_frames"] == 1
    code, out, _ = call("train", *image_args, f"--workdir={workdir}", "--num_steps=5")
    assert code == 0
    assert "holds single images" not in out
    assert f"Resuming from step 4 of {workdir}." in out
    assert f"{workdir} is trained to step 5." in out


def test_images_are_evaluated_without_a_tail(trained_on_images, call):
    workdir, _ = trained_on_images
    code, out, _ = call("evaluate", f"--workdir={workdir}")
    assert code == 0
    report = json.loads((workdir / "evaluation.json").read_text())
    assert set(report["metrics"]) == {"5-bit", "8-bit", "paper"}
    for result in report["metrics"].values():
        assert result["head"]["bits_per_dim"] > 0
        assert f"{result['head']['bits_per_dim']:.4f}" in out
        assert (result["tail"], result["baselines"]) == (None, {})


def cells(sheet, rows, columns):
    """The pictures of a contact sheet of 16x16 images: six times enlarged, two pixels apart."""
    height, width = sheet.shape[:2]
    assert height == 2 + rows * (96 + 2)
    left = width - columns * (96 + 2)
    assert 0 < left < 96
    pictures = sheet[2:, left:].reshape(rows, 98, columns, 98, 3)[:, :96, :, :96]
    return pictures.swapaxes(1, 2)[:, :, ::6, ::6], sheet[:, :left]


def test_sampled_images_are_png_files_in_a_grid(trained_on_images, call, tmp_path):
    workdir, _ = trained_on_images
    code, out, _ = call("sample", f"--workdir={workdir}", "--num_videos=5", f"--out={tmp_path}")
    assert code == 0
    assert f"5 images and the contact sheet samples.png are in {tmp_path}." in out
    names = [f"{i:03d}.png" for i in range(5)]
    assert {path.name for path in tmp_path.iterdir()} == {*names, "samples.png", MARKER}
    images = [iio.imread(tmp_path / name) for name in names]
    grid, margin = cells(iio.imread(tmp_path / "samples.png"), rows=2, columns=3)
    assert (margin == 255).all()  # no captions
    white = np.full((16, 16, 3), 255)
    np.testing.assert_array_equal(grid.reshape(6, 16, 16, 3), [*images, white])


def test_images_of_one_label_share_a_row(trained, call, tmp_path):
    workdir, _ = trained  # of videos: their first frames alone
    args = ("--num_frames=1", "--num_videos=10", f"--out={tmp_path}")
    code, _, _ = call("sample", f"--workdir={workdir}", *args)
    assert code == 0
    images = [iio.imread(tmp_path / f"{i:03d}.png") for i in range(10)]
    grid, margin = cells(iio.imread(tmp_path / "samples.png"), rows=8, columns=2)
    white = np.full((16, 16, 3), 255)
    expected = [[images[i], images[8 + i] if i < 2 else white] for i in range(8)]
    np.testing.assert_array_equal(grid, expected)
    captions = margin[2:].reshape(8, 98, -1, 3)
    assert len(np.unique(captions, axis=0)) == 8


# Errors.


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("train", ["--dataset=moments_in_time", "--data_dir={empty}"], "tfds build data_builders"),
        ("train", ["--dataset=moving_shape"], "Unknown dataset 'moving_shape'; use moving_shapes"),
        ("train", ["--dataset={empty}"], "holds no clips and no images. Expected are clips (.mp4"),
        ("train", ["--dataset={empty}/missing"], "missing does not exist. Expected are clips"),
        ("train", ["--image_size=18"], "--image_size=18 must be divisible by 2^levels = 4"),
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


def test_help_names_the_fixed_flags():
    processes = {name: start(name, "--help") for name in FIXED_FLAGS}
    for name, process in processes.items():
        _, out, _ = finish(process)
        named = set(re.findall(r"^  --(?:\[no\])?(\w+):", out, re.MULTILINE))
        assert set(FIXED_FLAGS[name].split()) <= named
