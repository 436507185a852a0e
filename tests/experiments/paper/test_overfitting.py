"""Figures 5 and 8: one clip is overfitted and generated again, and no other clip is shown."""

import re

import numpy as np
import pytest
from drawn_figures import drawn, lines

import flowvid
from experiments.paper import figure_data, overfitting
from experiments.running import finished_runs, frame_measures, run_processes
from flowvid.config import making
from flowvid.data import decoding

pytest_plugins = ["system_fixtures"]


def test_a_lossless_clip_is_read_back_to_the_pixel(tmp_path):
    video = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    overfitting.write_lossless(tmp_path / "a" / "clip.mkv", video)
    read = decoding.read_clip(tmp_path / "a" / "clip.mkv", None, 16)
    np.testing.assert_array_equal(read, video)


@pytest.fixture(scope="module")
def overfitted(request_of, train_here):
    """Figure 5's data, and the clip that it is of."""
    given = request_of().given
    small = {name: value for name, value in given.items() if name not in ("num_frames",)}
    request = request_of(given=small | {"num_steps": 30, "tail_frames": 1, "log_every": 10})
    return figure_data.overfitted_clip(request), request


def test_four_frames_are_learned_and_generated_again(overfitted, tmp_path):
    arrays, request = overfitted
    settings = making.preset_config(**request.given | {"num_frames": 4})
    held_out = finished_runs.load_split(settings, "validation")
    np.testing.assert_array_equal(arrays["real"], held_out[0]["video"])
    model = flowvid.load(overfitting.folder_of(request.folder, arrays["real"]) / "run")
    assert (model.config.num_frames, model.step) == (4, 30)
    again = model.sample(1, num_frames=4, temperature=0.0).videos[0]
    np.testing.assert_array_equal(arrays["generated"], again)
    assert arrays["psnr"].shape == (4,)
    assert arrays["psnr"][0] == pytest.approx(frame_measures.psnr(arrays["real"], again)[0])
    assert arrays["head/bits"][-1] < arrays["head/bits"][0]
    figure, _ = drawn("5", arrays, tmp_path)
    assert re.search(r"PSNR per frame [\d.]+ to [\d.]+ dB", figure.axes[0].get_title())
    np.testing.assert_array_equal(lines(figure)["tail"].get_ydata(), arrays["tail/bits"])


@pytest.mark.usefixtures("train_here")
def test_a_clip_of_ones_own_is_overfitted_as_a_whole(request_of, tmp_path):
    video = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    overfitting.write_lossless(tmp_path / "own.mkv", video)
    arrays = figure_data.overfitted_video(request_of(clip=tmp_path / "own.mkv"))
    np.testing.assert_array_equal(arrays["real"], video)
    assert arrays["tail/steps"].tolist() == [1, 2, 3, 4]
    drawn("8", arrays, tmp_path)


def test_another_clip_gets_a_run_of_its_own(request_of, monkeypatch, tmp_path):
    """The records and the model of the clip that was overfitted before are not used for it."""
    rng = np.random.default_rng(0)
    planned = []

    def stop(runs, jobs):
        planned.extend(runs)
        raise InterruptedError

    monkeypatch.setattr(run_processes, "carry_out", stop)
    folder = tmp_path / "figure"
    for name in ("a", "b", "a"):
        path = tmp_path / f"{name}.mkv"
        if not path.exists():
            overfitting.write_lossless(path, rng.integers(0, 256, (3, 8, 8, 3), np.uint8))
        with pytest.raises(InterruptedError):
            figure_data.overfitted_video(request_of(folder=folder, clip=path))
    first, second, again = planned
    assert first == again
    assert first.workdir != second.workdir
    for run, name in ((first, "a"), (second, "b")):
        saved, wanted = (
            decoding.read_clip(path, 3, 8)
            for path in (f"{run.train['dataset']}/train/clip.mkv", tmp_path / f"{name}.mkv")
        )
        np.testing.assert_array_equal(saved, wanted)
    data = [(run.train["dataset"], run.train["data_dir"]) for run in (first, second)]
    assert not set(data[0]) & set(data[1])
