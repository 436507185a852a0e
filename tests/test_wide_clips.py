"""Frames that are not square: from a folder of clips to a trained model, its samples and files."""

import json

import imageio.v3 as iio
import numpy as np
import pytest
from helpers import TINY, save_untrained
from test_mixture_run import SIZES as MIXTURE

import flowvid
from flowvid.config import making
from flowvid.data import datasets, media
from flowvid.errors import DataError

pytest_plugins = ["system_fixtures", "command_line"]

FRAMES, HEIGHT, WIDTH = 5, 8, 16


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory):
    """Six clips of random squares of 16x32 pixels in all."""
    folder = tmp_path_factory.mktemp("wide")
    rng = np.random.default_rng(0)
    for index in range(6):
        video = rng.integers(0, 256, (FRAMES, 4, 8, 3), np.uint8).repeat(4, 1).repeat(4, 2)
        split = "train" if index < 4 else "validation"
        (folder / split / "noise").mkdir(parents=True, exist_ok=True)
        media.write_lossless(folder / split / "noise" / str(index), video, "mkv", 10)
    return folder


def trained(call, wide_folder, tmp_path):
    """The folder of a run of one step, by command."""
    workdir = tmp_path / "run"
    fields = TINY | {"image_size": f"{HEIGHT}x{WIDTH}", "num_steps": 1}
    fields |= {"dataset": wide_folder, "data_dir": tmp_path / "data"}
    code, printed, err = call(
        "train", f"--workdir={workdir}", *(f"--{name}={value}" for name, value in fields.items())
    )
    assert code == 0, err
    assert "is trained to step 1" in printed
    assert json.loads((workdir / "config.json").read_text())["image_size"] == "8x16"
    return workdir


def held_out(wide_folder, tmp_path):
    """The validation clips."""
    wanted = {"num_frames": FRAMES, "image_size": (HEIGHT, WIDTH)}
    found = datasets.load(str(wide_folder), "validation", data_dir=tmp_path / "data", **wanted)
    videos = np.stack([found[index]["video"] for index in range(2)])
    assert videos.shape == (2, FRAMES, HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(videos[:, :, ::2, ::2], videos[:, :, 1::2, 1::2])  # 2x2 squares
    return videos


def test_they_train_evaluate_and_are_continued_and_shown(wide_folder, call, tmp_path):
    workdir, page = trained(call, wide_folder, tmp_path), tmp_path / "page.html"
    args = ("--first_frames=validation", "--num_given=2", "--num_videos=2")
    for command in (
        ("evaluate", f"--workdir={workdir}"),
        ("sample", f"--workdir={workdir}", f"--out={tmp_path / 'out'}", *args),
        ("experiments.report", f"--workdir={workdir}", f"--out={page}"),
    ):
        code, _, err = call(*command)
        assert code == 0, err
    assert iio.imread(tmp_path / "out" / "samples.png").ndim == 3
    assert "object-fit: contain" in page.read_text(encoding="utf-8")  # nothing is stretched
    model, videos = flowvid.load(workdir), held_out(wide_folder, tmp_path)
    assert model.log_prob(videos).shape == (2, FRAMES)
    with pytest.raises(ValueError, match="frames are 16x8x3, the model's are 8x16x3"):
        model.log_prob(videos.swapaxes(2, 3))


def test_they_are_compressed_and_scored(wide_folder, call, tmp_path):
    workdir = tmp_path / "run"
    fields = MIXTURE | {"n_bits": 8, "variant": "state", "image_size": (HEIGHT, WIDTH)}
    fields |= {"dataset": str(wide_folder), "data_dir": str(tmp_path / "data")}
    save_untrained(making.preset_config(**fields), workdir)
    code, _, err = call("compress", f"--workdir={workdir}")
    assert code == 0, err
    args = (f"--workdir={workdir}", f"--file={workdir / 'validation.flv'}")
    code, _, err = call("decompress", *args, f"--out={tmp_path / 'back'}")
    assert code == 0, err
    back = [iio.imread(path, plugin="pyav") for path in sorted((tmp_path / "back").glob("*.mkv"))]
    videos = held_out(wide_folder, tmp_path)
    np.testing.assert_array_equal(back, videos)
    assert flowvid.load(workdir).score(videos).maps.shape == (2, FRAMES, HEIGHT, WIDTH)


def test_squares_do_not_become_wide_frames(wide_folder, tmp_path):
    wanted = {"data_dir": tmp_path, "num_frames": FRAMES}
    datasets.load(str(wide_folder), "train", image_size=8, **wanted)
    prepared = tmp_path / "video_folder"
    assert [path.name[-6:] for path in prepared.iterdir()] == ["8x8_5f"]
    with pytest.raises(DataError, match="available at 8x8, but image size 4x8 was asked for"):
        datasets.load(str(prepared), "train", image_size="4x8", **wanted)
