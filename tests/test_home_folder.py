"""Functions that take a path understand ~, as flags do."""

import numpy as np
import pytest
from clip_files import write

import flowvid
from experiments.gan_comparison import generators
from flowvid.data import decoding, media
from flowvid.errors import ClipError, ConfigError
from flowvid.evaluation import evaluation_report
from flowvid.gan import trained
from flowvid.training import loop
from flowvid.training.checkpoints import reading

pytest_plugins = ["system_fixtures"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "home"
    assert not (tmp_path / "~").exists()


def test_clips_are_read_there(home):
    write(home / "clip.mkv", np.full((3, 16, 16, 3), 90, np.uint8))
    np.testing.assert_array_equal(decoding.read_clip("~/clip.mkv", None, 16), 90)
    assert not decoding.is_single("~/clip.mkv")
    with pytest.raises(ClipError, match=r"^~/none\.mkv: not readable"):
        decoding.read_clip("~/none.mkv", None, 16)


def test_media_are_written_there(home):
    video = np.full((3, 16, 16, 3), 90, np.uint8)
    media.write_image("~/new/image.png", video[0])
    media.write_video("~/new/clip.gif", video)
    assert {path.name for path in (home / "new").iterdir()} == {"image.png", "clip.gif"}


READERS = {
    "a run": flowvid.load,
    "a GAN": trained.load,
    "either": generators.load,
}


@pytest.mark.parametrize("case", READERS)
def test_runs_are_looked_for_there(home, case):
    with pytest.raises(ConfigError, match=str(home / "run")):
        READERS[case]("~/run")


def test_a_run_is_trained_and_found_there(home, tiny):
    loop.train(tiny(num_steps=0), "~/run")
    assert (home / "run" / "config.json").exists()
    model = generators.load("~/run")
    assert model.step == 0
    assert reading.read_config("~/run")[0] == generators.settings_of("~/run") == model.config


def test_a_report_is_written_there(home):
    evaluation = evaluation_report.Evaluation({"split": "test"}, {"bits": np.ones(3)})
    assert evaluation_report.write(evaluation, "~") == home / "evaluation.json"
    assert {path.name for path in home.iterdir()} == {"evaluation.json", "evaluation.npz"}
