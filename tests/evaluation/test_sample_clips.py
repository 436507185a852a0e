"""`flowvid.sample` continues the clips that there are, with their labels."""

import numpy as np
import pytest
from command_line import assert_one_line
from helpers import NUM_CLIPS, save_untrained

from flowvid.data import media
from flowvid.video.model import Model

pytest_plugins = ["system_fixtures", "command_line"]

COUNT = NUM_CLIPS["validation"]
TEXT = f"The validation split has {COUNT} clips, so {COUNT} are continued, not"


@pytest.fixture(scope="module")
def tail_sees_labels(tiny, tmp_path_factory):
    """The workdir of a run whose tail is conditioned on labels."""
    workdir = tmp_path_factory.mktemp("tail_label") / "run"
    save_untrained(tiny(variant="label_everywhere"), workdir)
    return workdir


@pytest.fixture
def asked(monkeypatch):
    """The keyword arguments of each call of `Model.stream`."""
    calls, original = [], Model.stream

    def stream(self, *args, **kwargs):
        calls.append({"label": args[1], **kwargs})
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Model, "stream", stream)
    return calls


def args_of(workdir, out, *more):
    """Flags that continue held-out clips for two frames, and others."""
    return (
        f"--workdir={workdir}",
        "--first_frames=validation",
        "--num_given=2",
        "--num_frames=4",
        f"--out={out}",
        *more,
    )


def gifs(folder):
    return sorted(path.name for path in folder.glob("*.gif"))


def test_a_small_split_is_continued_as_a_whole(run_of, call, tmp_path, caplog):
    code, out, _ = call("sample", *args_of(run_of("state_label"), tmp_path))
    assert code == 0
    assert f"{TEXT} 16." in out.splitlines()
    assert not caplog.text
    assert gifs(tmp_path) == [f"{i:03d}.gif" for i in range(COUNT)]


def test_more_clips_than_there_are_is_a_warning(run_of, call, tmp_path, caplog):
    args = args_of(run_of("state_label"), tmp_path, f"--num_videos={COUNT + 1}")
    code, out, _ = call("sample", *args)
    assert code == 0
    assert TEXT not in out
    assert f"{TEXT} {COUNT + 1}." in caplog.text
    assert len(gifs(tmp_path)) == COUNT


def test_fewer_clips_are_continued_without_a_remark(run_of, call, tmp_path, caplog):
    code, out, _ = call("sample", *args_of(run_of("state_label"), tmp_path, "--num_videos=2"))
    assert code == 0
    assert "continued, not" not in out + caplog.text
    assert len(gifs(tmp_path)) == 2


def test_a_tail_sees_the_labels_of_the_clips(tail_sees_labels, splits, call, tmp_path, asked):
    code, _, _ = call("sample", *args_of(tail_sees_labels, tmp_path, "--num_videos=3"))
    assert code == 0
    (given,) = asked
    assert given["label"] is None
    validation = splits[1]
    assert given["labels"].tolist() == [validation[i]["label"] for i in range(3)]


def test_a_given_label_replaces_those_of_the_clips(tail_sees_labels, call, tmp_path, asked, caplog):
    code, _, _ = call("sample", *args_of(tail_sees_labels, tmp_path, "--label=orbit"))
    assert code == 0
    assert asked[0]["label"] == "orbit"
    assert "ignored" not in caplog.text


def test_a_clip_without_a_label_needs_one_for_such_a_tail(tail_sees_labels, call, tmp_path):
    clip = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    media.write_video(tmp_path / "clip.mp4", clip)
    args = (f"--workdir={tail_sees_labels}", f"--first_frames={tmp_path}/clip.mp4")
    more = ("--num_given=2", "--num_frames=4", "--num_videos=1", f"--out={tmp_path}")
    assert_one_line(call("sample", *args, *more), "conditioned on labels: give --label for")
    code, _, _ = call("sample", *args, *more, "--label=orbit")
    assert code == 0
