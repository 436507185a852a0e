"""Fixtures of the figures' tests: requests, and runs that are trained in this process."""

import pytest
from helpers import TINY

from experiments.paper import figure_data
from experiments.running import run_processes
from flowvid.config import making
from flowvid.gan import config as gan_config
from flowvid.gan import training as gan_training
from flowvid.training import loop

# Runs that the figures train are smaller still than those of `run_of`.
SMALLER = TINY | {"levels": 1, "image_size": 8, "num_frames": 3, "eval_every": 4}


@pytest.fixture(scope="module")
def train_here():
    """Runs are trained in this process, which takes less time."""

    def carry_out(planned, jobs):
        for run in planned:
            if run.module == "flowvid.gan.train":
                gan_training.train(gan_config.preset_config(**run.train), run.workdir)
            else:
                loop.train(making.preset_config(**run.train), run.workdir)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_processes, "carry_out", carry_out)
        yield


@pytest.fixture(scope="module")
def request_of(tmp_path_factory, data_dir):
    """A function that makes a request, with changes."""

    def make(**changes):
        fields = {
            "folder": tmp_path_factory.mktemp("figures") / "figure",
            "run": None,
            "given": SMALLER | {"data_dir": str(data_dir)},
            "clip": None,
            "images": 3,
            "temperature": 0.5,
            "seeds": 1,
            "jobs": 1,
        }
        return figure_data.Request(**fields | changes)

    return make
