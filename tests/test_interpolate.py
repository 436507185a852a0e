"""flowvid.interpolate, by command: from one clip to another."""

import imageio.v3 as iio
import numpy as np
import pytest

from flowvid.data import datasets, media

pytest_plugins = ["system_fixtures", "command_line"]


@pytest.fixture(scope="module")
def labelled_run(run_of):
    """A run with labels."""
    return run_of("state_label")


def test_the_ends_are_the_clips(labelled_run, data_dir, call, tmp_path):
    args = (f"--workdir={labelled_run}", "--steps=3", f"--out={tmp_path}")
    code, printed, err = call("interpolate", *args, "--num_frames=2")
    assert code == 0, err
    assert "3 videos and the contact sheet interpolation.png are in" in printed
    code, _, err = call("interpolate", *args, "--num_frames=1")
    assert code == 0, err
    wanted = {"data_dir": data_dir, "num_frames": 1, "image_size": 16}
    dataset = datasets.load("moving_shapes", "validation", **wanted)
    for name, index in (("000.png", 0), ("002.png", 1)):
        found, clip = iio.imread(tmp_path / name), dataset[index]["video"][0]
        np.testing.assert_array_equal(found >> 3, clip >> 3)
    assert iio.imread(tmp_path / "interpolation.png").ndim == 3


def test_two_files_need_a_label_where_the_run_has_labels(labelled_run, call, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        media.write_image(tmp_path / name, rng.integers(0, 256, (16, 16, 3), np.uint8))
    args = (f"--workdir={labelled_run}", "--steps=2", "--num_frames=1", f"--out={tmp_path / 'out'}")
    files = (f"--first={tmp_path / 'a.png'}", f"--second={tmp_path / 'b.png'}")
    for given, message in (
        (files, "trained with every label told: give the clips' --label"),
        ((*files, "--label=bounce", "--num_frames=2"), "a clip has 1 frames: use --num_frames=1"),
        (files[:1], "--first and --second go together"),
        (("--label=bounce",), "--label is that of --first and --second"),
    ):
        code, _, err = call("interpolate", *args, *given)
        assert code == 1
        assert message in err
    code, _, err = call("interpolate", *args, *files, "--label=bounce")
    assert code == 0, err
    assert (tmp_path / "out" / "001.png").exists()
