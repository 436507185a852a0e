"""A run that is in the folder already is used again only if it is the one that is asked for."""

import dataclasses

import pytest
from helpers import TINY

from experiments.running import configurations
from experiments.running.run_processes import Run, carry_out
from flowvid.config import config_file, making
from flowvid.errors import ConfigError
from flowvid.gan import config as gan_config

LABELS = ("bounce", "fall")


def saved_run(workdir, **changes):
    """Writes the config.json of a run, as training does, and returns the flags that made it."""
    given = TINY | {"variant": "state"} | changes
    config = making.preset_config(**given)
    steps = config.num_steps if config.ablation.trains else 0
    config_file.write(
        dataclasses.replace(config, num_steps=steps or 0, num_labels=len(LABELS)), LABELS, workdir
    )
    return given


def refusal(workdir, given, module="flowvid.train"):
    """Returns why the run in a folder is not the one of these flags, or None if it is."""
    try:
        configurations.check_reusable(workdir, module, given)
    except ConfigError as error:
        return str(error)
    return None


def test_the_same_run_and_an_empty_folder_are_fine(tmp_path):
    assert refusal(tmp_path, {"preset": "paper_small"}) is None
    given = saved_run(tmp_path)
    assert refusal(tmp_path, given) is None
    # What may change on resuming does not matter, and more steps are more training.
    others = {"log_every": 7, "data_dir": "/data", "num_steps": 9}
    assert refusal(tmp_path, given | others) is None
    assert "--seed=5 (the run has 0)" in refusal(tmp_path, given | others | {"seed": 5})


def test_a_flag_that_is_left_out_does_not_reuse_the_run_that_had_it(tmp_path):
    given = saved_run(tmp_path)
    without = {name: value for name, value in given.items() if name != "width"}
    assert "--width=96 (the run has 8). Give the flags" in refusal(tmp_path, without)


def test_a_run_of_more_steps_is_not_the_one_of_fewer(tmp_path):
    given = saved_run(tmp_path)
    assert "--num_steps=3 (the run has 4)" in refusal(tmp_path, given | {"num_steps": 3})


def test_init_and_single_images_are_as_training_makes_them(tmp_path):
    given = saved_run(tmp_path, variant="init")
    del given["num_steps"]
    assert refusal(tmp_path, given) is None
    assert "--variant=state (the run has init)" in refusal(tmp_path, given | {"variant": "state"})
    given = saved_run(tmp_path, num_frames=1, tail_frames=None)
    del given["num_frames"], given["tail_frames"]
    assert refusal(tmp_path, given) is None
    assert "--num_frames=4 (the run has 1)" in refusal(tmp_path, given | {"num_frames": 4})


def test_runs_of_the_gan_are_checked_too(tmp_path):
    given = {"preset": "small", "objective": "r1", "width": 4}
    config_file.write(gan_config.preset_config(**given), LABELS, tmp_path)
    assert refusal(tmp_path, given, configurations.GAN_MODULE) is None
    why = refusal(tmp_path, given | {"objective": "paper"}, configurations.GAN_MODULE)
    assert "--objective=paper (the run has r1)" in why


def test_nothing_starts_when_one_folder_holds_another_run(tmp_path):
    given = saved_run(tmp_path)
    runs = [
        Run(tmp_path / "new", given, None, module="no.such.module"),
        Run(tmp_path, given | {"width": 4}, None),
    ]
    with pytest.raises(ConfigError, match=r"--width=4 \(the run has 8\)"):
        carry_out(runs, jobs=1)
    assert not (tmp_path / "new").exists()
