"""A run of another format version is refused by one line that names both versions."""

import json

import pytest
from command_line import assert_one_line
from helpers import small_state

import flowvid
from flowvid.config import config_file, making
from flowvid.errors import ConfigError
from flowvid.training.checkpoints import reading
from flowvid.training.checkpoints.saving import Checkpoints

pytest_plugins = ["command_line"]

CONFIG = making.preset_config("paper_small")
NAMES = ("bounce", "fall")


@pytest.fixture(params=[None, config_file.FORMAT_VERSION + 1], ids=["earlier", "later"])
def other_version(request, tmp_path, monkeypatch):
    """The workdir of a run of another version, and that version; the first carried no number."""
    to_dict = config_file.to_dict

    def to_dict_there(config, label_names):
        saved = to_dict(config, label_names) | {"format_version": request.param}
        return {name: value for name, value in saved.items() if value is not None}

    with monkeypatch.context() as patch:
        patch.setattr(config_file, "to_dict", to_dict_there)
        config_file.write(CONFIG, NAMES, tmp_path)
        with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
            kept.save(small_state(1))
    assert json.loads((tmp_path / "config.json").read_text()).get("format_version") == request.param
    return tmp_path, request.param or 1


@pytest.mark.parametrize("entry", ["train", "evaluate", "sample"])
@pytest.mark.parametrize("lost", [False, True], ids=["whole", "without config.json"])
def test_every_entry_point_names_both_versions(other_version, call, entry, lost):
    workdir, version = other_version
    if lost:
        (workdir / "config.json").unlink()
    before = sorted(workdir.rglob("*"))
    result = call(entry, f"--workdir={workdir}")
    message = (
        f" is of format version {version}, but flowvid {flowvid.__version__} reads version "
        f"{config_file.FORMAT_VERSION}:"
    )
    assert_one_line(result, message)
    assert "delete this file" not in result[2]
    assert sorted(workdir.rglob("*")) == before


def test_checkpoints_of_another_version_are_not_resumed(other_version):
    """Also where config.json was replaced by one of this version."""
    workdir, version = other_version
    config_file.write(CONFIG, NAMES, workdir)
    with (
        Checkpoints(workdir, CONFIG, NAMES) as kept,
        pytest.raises(ConfigError, match=f"checkpoints .* is of format version {version}, but"),
    ):
        kept.restore(small_state(0))
    assert reading.saved_steps(workdir) == [1]
