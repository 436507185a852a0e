"""The command line: train, evaluate and sample end to end."""

import json
import re

import imageio.v3 as iio
import numpy as np
import pytest
from command_line import finish, start
from PIL import Image
from trained_by_command import train_args

from flowvid.data import decoding, media
from flowvid.paths import MARKER, NOTE
from flowvid.video.model import Model

pytest_plugins = ["trained_by_command"]

# Other tools call these: they stay.
FIXED_FLAGS = {
    "train": "variant preset dataset data_dir workdir num_steps batch_size learning_rate "
    "warmup_steps eval_every num_frames image_size n_bits dequantization coupling tail_steps "
    "tail_frames seed",
    "evaluate": "workdir dataset data_dir num_videos metrics seed",
    "sample": "workdir label num_videos num_frames temperature first_frames format out seed",
}


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


def test_evaluate_prints_and_writes_the_report(trained, call):
    workdir, _ = trained
    code, out, err = call("evaluate", f"--workdir={workdir}", "--num_videos=3")
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


def test_sample_draws_a_label(trained, call, tmp_path):
    workdir, _ = trained
    args = (f"--workdir={workdir}", "--label=bounce", "--num_videos=2", "--format=mp4")
    code, out, err = call("sample", *args, "--num_frames=4", f"--out={tmp_path}")
    assert code == 0, err
    assert f"2 videos and the contact sheet samples.png are in {tmp_path}." in out
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"000.mp4", "001.mp4", "samples.png", MARKER}
    assert decoding.read_clip(tmp_path / "000.mp4", None, 16).shape == (4, 16, 16, 3)


def test_samples_among_other_files_are_noted(trained, call, tmp_path):
    workdir, _ = trained
    (tmp_path / "mine.mp4").touch()
    args = (f"--workdir={workdir}", "--num_videos=2", "--num_frames=2", f"--out={tmp_path}")
    assert call("sample", *args)[0] == 0
    names = {path.name for path in tmp_path.iterdir()}
    noted = {"000.gif", "001.gif", "samples.png"}
    assert names == {"mine.mp4", NOTE, *noted}
    lines = (tmp_path / NOTE).read_text().splitlines()
    assert {line for line in lines if not line.startswith("#")} == noted


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


def changed_stream(monkeypatch, change):
    """Lets a function see, and change, each frame that is sampled."""
    stream = Model.stream

    def changed(self, *args, **kwargs):
        for number, frame in enumerate(stream(self, *args, **kwargs)):
            yield change(number, frame)

    monkeypatch.setattr(Model, "stream", changed)


def test_the_sheet_shows_ten_frames_of_a_long_video(trained, call, tmp_path, monkeypatch):
    workdir, _ = trained
    found = []
    changed_stream(monkeypatch, lambda number, frame: (found.append(frame.pixels), frame)[1])
    args = (f"--workdir={workdir}", "--num_videos=2", "--num_frames=40", f"--out={tmp_path}")
    code, _, err = call("sample", *args, "--format=mp4", "--label=bounce")
    assert code == 0, err
    assert decoding.read_clip(tmp_path / "001.mp4", None, 16).shape == (40, 16, 16, 3)
    sheet, _ = cells(iio.imread(tmp_path / "samples.png"), rows=2, columns=10)
    times = [0, 4, 9, 13, 17, 22, 26, 30, 35, 39]
    np.testing.assert_array_equal(sheet, np.stack([found[time] for time in times], axis=1))


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_interrupted_sampling_leaves_what_was_there(trained, call, tmp_path, monkeypatch, ending):
    workdir, _ = trained
    (tmp_path / f"000.{ending}").write_text("an earlier video")

    def interrupt(number, frame):
        if number == 3:
            raise KeyboardInterrupt
        return frame

    changed_stream(monkeypatch, interrupt)
    args = (f"--workdir={workdir}", "--num_videos=2", "--num_frames=5", f"--out={tmp_path}")
    code, _, err = call("sample", *args, f"--format={ending}")
    assert code == 130
    assert "stopped after 3 of 5 frames: no video is written." in err
    assert {path.name for path in tmp_path.iterdir()} == {f"000.{ending}", NOTE}
    assert (tmp_path / f"000.{ending}").read_text() == "an earlier video"


def test_videos_that_are_not_finite_are_skipped(trained, call, tmp_path, monkeypatch, caplog):
    workdir, _ = trained
    finite = [[True, True]] * 2 + [[False, True]] * 2

    changed_stream(
        monkeypatch, lambda number, frame: frame._replace(finite=np.array(finite[number]))
    )
    args = (f"--workdir={workdir}", "--num_videos=2", "--num_frames=4", f"--out={tmp_path}")
    code, out, _ = call("sample", *args)
    assert code == 0
    assert "1 of 2 videos are non-finite and are skipped" in caplog.text
    assert "1 videos and the contact sheet" in out
    assert {path.name for path in tmp_path.iterdir()} == {"001.gif", "samples.png", MARKER}
    cells(iio.imread(tmp_path / "samples.png"), rows=1, columns=4)
    finite[3] = [False, False]
    code, _, err = call("sample", *args, f"--out={tmp_path / 'none'}")
    assert code == 1
    assert "all samples of" in err
    assert {path.name for path in (tmp_path / "none").iterdir()} == {MARKER}


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        *((".png", ".png"), (".jpg", ".jpg"), (".webp", ".webp"), (".gif", ".gif")),
        *((".gif", ".png"), (".apng", ".png"), (".mp4", ".webp")),
    ],
)
def test_sample_continues_an_image(trained, call, tmp_path, ending, kind):
    """Whatever the ending of its name is."""
    workdir, _ = trained
    media.write_image(tmp_path / f"image{kind}", np.full((32, 32, 3), 90, np.uint8))
    (tmp_path / f"image{kind}").rename(tmp_path / f"first{ending}")
    args = (f"--workdir={workdir}", f"--first_frames={tmp_path}/first{ending}", "--num_videos=1")
    code, _, err = call("sample", *args, "--num_frames=2", f"--out={tmp_path}")
    assert code == 0, err
    video = decoding.read_clip(tmp_path / "000.gif", None, 16)
    assert len(video) == 2
    assert np.abs(video[0].astype(int) - 90).max() <= 3


@pytest.mark.parametrize("ending", [".webp", ".gif"])
def test_of_an_animation_four_frames_are_continued(trained, call, tmp_path, ending):
    workdir, _ = trained
    levels = [Image.new("RGB", (32, 32), (level,) * 3) for level in (20, 80, 140, 200, 250)]
    levels[0].save(tmp_path / f"first{ending}", save_all=True, append_images=levels[1:])
    args = (f"--workdir={workdir}", f"--first_frames={tmp_path}/first{ending}", "--num_videos=1")
    code, _, err = call("sample", *args, "--num_frames=5", f"--out={tmp_path}/out")
    assert code == 0, err
    video = decoding.read_clip(tmp_path / "out" / "000.gif", None, 16)
    assert np.abs(video[:4, 8, 8, 0].astype(int) - (20, 80, 140, 200)).max() <= 3


# Single images.


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


def test_help_names_the_fixed_flags():
    processes = {name: start(name, "--help") for name in FIXED_FLAGS}
    for name, process in processes.items():
        _, out, _ = finish(process)
        named = set(re.findall(r"^  --(?:\[no\])?(\w+):", out, re.MULTILINE))
        assert set(FIXED_FLAGS[name].split()) <= named
