"""Runs that the command line trains once per session, for the tests of the command line.

A test file uses them by `pytest_plugins = ["trained_by_command"]`.
"""

import pytest
from command_line import finish, start
from helpers import TINY

pytest_plugins = ["system_fixtures", "command_line"]


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
