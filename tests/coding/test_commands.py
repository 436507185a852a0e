"""flowvid.compress and flowvid.decompress, by command."""

import imageio.v3 as iio
import numpy as np
import pytest
from helpers import save_untrained
from test_mixture_run import SIZES as MIXTURE

from flowvid.config import making
from flowvid.data import datasets, decoding, media

pytest_plugins = ["system_fixtures", "command_line"]


@pytest.fixture(scope="module")
def workdir(data_dir, tmp_path_factory):
    """A run of random parameters."""
    folder = tmp_path_factory.mktemp("run")
    fields = MIXTURE | {"data_dir": str(data_dir), "n_bits": 8}
    save_untrained(making.preset_config(**fields), folder)
    return folder


def read_all(folder, ending):
    files = sorted(folder.glob(f"[0-9]*{ending}"))
    if ending == ".mkv":
        return [iio.imread(file, plugin="pyav") for file in files]
    return [np.stack([iio.imread(f) for f in sorted(file.iterdir())]) for file in files]


def test_a_split_comes_back(workdir, data_dir, call, tmp_path):
    code, printed, _ = call("compress", f"--workdir={workdir}", "--num_videos=2")
    assert code == 0
    assert "2 clips, 10 frames: " in printed
    assert "bits per dimension" in printed
    path = workdir / "validation.flv"
    assert f"Written to {path}." in printed
    assert not list(workdir.glob("*.part"))
    args = (f"--workdir={workdir}", f"--file={path}", f"--out={tmp_path / 'out'}")
    code, printed, _ = call("decompress", *args)
    assert code == 0
    assert "2 clips: every pixel is as it was compressed." in printed
    dataset = datasets.load(
        "moving_shapes", "validation", data_dir=data_dir, num_frames=5, image_size=16
    )
    found = read_all(tmp_path / "out", ".mkv")
    np.testing.assert_array_equal(found, [dataset[index]["video"] for index in range(2)])

    data = path.read_bytes()
    path.write_bytes(data[:-9])
    code, _, err = call("decompress", *args)
    assert code == 1
    assert err.strip().splitlines()[-1] == f"error: {path} is cut off."
    code, _, err = call("decompress", f"--workdir={workdir}", f"--file={workdir / 'no.flv'}")
    assert code == 1
    assert "no.flv: No such file" in err


def test_clips_of_a_folder_come_back_as_images(workdir, call, tmp_path):
    clips = tmp_path / "clips"
    video = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), np.uint8)
    media.write_lossless(clips / "a", video, "mkv", 10)
    media.write_image(clips / "b" / "one.png", video[0])
    out = tmp_path / "all.flv"
    args = (f"--workdir={workdir}", f"--clips={clips}", f"--out={out}", "--label=orbit")
    code, printed, _ = call("compress", *args)
    assert code == 0
    assert "2 clips, 4 frames: " in printed
    code, _, _ = call("decompress", f"--workdir={workdir}", f"--file={out}", "--format=png")
    assert code == 0
    found = read_all(tmp_path / "all", "")
    wanted = [decoding.read_clip(clips / name, None, 16) for name in ("a.mkv", "b/one.png")]
    for clip, own in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(clip, own)
    np.testing.assert_array_equal(wanted[0], video[:, :, 4:20])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--label=orbit"], "--label goes with --clips"),
        (["--clips=nowhere"], "nowhere: not readable"),
        (["--clips=empty"], "empty has no clips or images"),
        (["--clips=empty/../text.mp4"], "not readable as video"),
        (["--clips=text.mp4", "--label=orbits"], "Unknown label 'orbits'"),
    ],
)
def test_what_cannot_be_compressed_leaves_no_file(
    args, message, workdir, call, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no clip")
    code, _, err = call("compress", f"--workdir={workdir}", "--out=out/clips.flv", *args)
    assert code == 1
    assert message in err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_run_of_glow_is_refused(run_of, call):
    code, _, err = call("compress", f"--workdir={run_of('state')}")
    assert code == 1
    assert "--flow=glow has no probabilities of grey values" in err
