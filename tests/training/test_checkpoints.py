"""Checkpoints are restored bit by bit, from the run's folder alone; the best ones are kept."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from helpers import PAPERS_VARIANTS, assert_same, saved, small_state

from flowvid.config import config_file, making
from flowvid.errors import ConfigError
from flowvid.training import loop, trainer
from flowvid.training.checkpoints import reading, run_state
from flowvid.training.checkpoints.saving import Checkpoints
from flowvid.video import joint

pytest_plugins = ["system_fixtures"]

CONFIG = making.preset_config("paper_small")
NAMES = ("bounce", "fall")
TEMPLATE = {"head": small_state(0).head.params}


def test_a_state_comes_back_as_it_was_saved(tiny, tmp_path):
    config, dataset, _ = loop.prepare(tiny(variant="state_label", ema_decay=0.9))
    rng = np.random.default_rng(0)
    template = trainer.state_template(config)
    state = jax.tree.map(lambda x: np.asarray(rng.integers(0, 100, x.shape) / 7, x.dtype), template)
    state = state._replace(step=np.asarray(3), examples=np.asarray(2**40))
    with Checkpoints(tmp_path, config, dataset.label_names) as kept:
        assert kept.restore(template) is None
        kept.save(state)
    with Checkpoints(tmp_path, config, dataset.label_names) as kept:
        restored = kept.restore(template)
    assert type(restored) is run_state.RunState
    assert_same(restored, state)
    assert len(dataset) == 12  # the template needs the labels, not the clips


def test_the_last_ones_and_the_best_are_kept_and_the_newest_is_taken(tmp_path):
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        for step, bits in ((1, 3.0), (2, 1.0), (3, None), (4, 2.0), (5, np.nan), (6, 2.5)):
            kept.save(small_state(step), bits_per_dim=bits)
        kept.save(small_state(6, value=-1))  # a step that is there already
        kept.wait()
        assert kept.steps() == reading.saved_steps(tmp_path) == [2, 4, 5, 6]
        assert_same(kept.restore(small_state(0)), small_state(6))
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:  # the best changes
        assert [kept.validation(step) for step in (2, 4, 6)] == [1.0, 2.0, 2.5]
        kept.save(small_state(7), bits_per_dim=0.5)
        kept.wait()
        assert kept.steps() == [5, 6, 7]


def test_a_checkpoint_that_is_no_restore_point_is_kept_only_while_it_is_the_newest(tmp_path):
    """An interrupted run ends with the checkpoints of an uninterrupted one."""
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        kept.save(small_state(2), bits_per_dim=1.0)
        kept.save(small_state(3), restore_point=False)
        kept.wait()
        assert kept.steps() == [2, 3]
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        kept.save(small_state(4), bits_per_dim=2.0)
        kept.wait()
        assert kept.steps() == [2, 4]
        for step in (5, 6, 7, 8):  # the restore points are kept, however often a signal arrives
            kept.save(small_state(step), restore_point=False)
        kept.wait()
        assert kept.steps() == [2, 4, 8]


def test_a_checkpoint_is_replaced_on_request(tmp_path):
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        kept.save(small_state(1), restore_point=False)
        kept.save(small_state(1, value=1), bits_per_dim=2.0, replace=True)
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        assert_same(kept.restore(small_state(0)), small_state(1, value=1))
        assert kept.validation(1) == 2.0


@pytest.mark.parametrize(("which", "step"), [("last", 6), ("best", 2), ("4", 4)])
def test_parameters_of_the_last_the_best_or_any_checkpoint(tmp_path, which, step):
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        for s in (2, 4, 6):
            kept.save(small_state(s), bits_per_dim=s / 2)
    params, at = reading.restore_params(tmp_path, TEMPLATE, checkpoint=which)
    assert at == step
    assert_same(params, {"head": small_state(step).head.params})
    for wrong, message in (
        ("5", r"holds no checkpoint of step 5: use last, best or one of 2, 4, 6"),
        ("first", "--checkpoint=first is unknown: use last, best or a step"),
    ):
        with pytest.raises(ConfigError, match=message):
            reading.restore_params(tmp_path, TEMPLATE, checkpoint=wrong)


@pytest.mark.parametrize("bits", [None, np.nan, np.inf])
def test_without_a_finite_validation_there_is_no_best(tmp_path, bits):
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        kept.save(small_state(1), bits_per_dim=bits)
    with pytest.raises(ConfigError, match=r"no checkpoint in .* has a finite validation, so there"):
        reading.restore_params(tmp_path, TEMPLATE, checkpoint="best")


def test_the_best_is_read_while_the_run_trains(tmp_path, monkeypatch):
    """Also if the run saves a better one and deletes the one that is about to be read."""
    read = reading._read_partly
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        for step, bits in ((1, 1.0), (2, 2.0), (3, 2.0), (4, 2.0)):
            kept.save(small_state(step), bits_per_dim=bits)
        kept.wait()
        before = sorted(tmp_path.rglob("*"))
        assert reading.restore_params(tmp_path, TEMPLATE, checkpoint="best")[1] == 1
        assert sorted(tmp_path.rglob("*")) == before

        def save_a_better_one_first(manager, step, wanted):
            kept.save(small_state(5), bits_per_dim=0.5)
            kept.wait()
            return read(manager, step, wanted)

        monkeypatch.setattr(reading, "_read_partly", save_a_better_one_first)
        params, step = reading.restore_params(tmp_path, TEMPLATE, checkpoint="best")
        assert kept.steps() == [3, 4, 5]
    assert step == 5
    assert_same(params, {"head": small_state(5).head.params})


@pytest.mark.parametrize("variant", PAPERS_VARIANTS)
def test_parameters_come_back_from_a_workdir_alone(run_of, variant):
    workdir = run_of(variant)
    config, _ = config_file.read(workdir)
    run = saved(workdir, config.num_steps)
    params, step = reading.restore_params(workdir, joint.params_template(config))
    assert step == int(run.step) == config.num_steps
    assert_same(params, {"head": run.head.params, "tail": run.tail.params})


def test_a_run_without_a_checkpoint_says_so(tiny, tmp_path):
    config = tiny(num_labels=8)
    config_file.write(config, ("a",) * 8, tmp_path)
    message = f"{tmp_path} holds no checkpoint yet: let `python -m"
    with pytest.raises(ConfigError, match=message):
        reading.restore_params(tmp_path, joint.params_template(config))
    (tmp_path / "checkpoints").mkdir()
    for which in ("last", "best"):
        with pytest.raises(ConfigError, match=message):
            reading.restore_params(tmp_path, joint.params_template(config), checkpoint=which)
    with pytest.raises(ConfigError, match=message):
        reading.saved_steps(tmp_path)


# The configuration.


def test_the_configuration_is_in_every_checkpoint(tmp_path):
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        assert reading.find_config(tmp_path) is None  # killed before the first was saved
        kept.save(small_state(1))
    assert not (tmp_path / "config.json").exists()
    assert reading.read_config(tmp_path) == (CONFIG, NAMES)
    changed = dataclasses.replace(CONFIG, num_steps=7)
    config_file.write(changed, NAMES, tmp_path)
    assert reading.read_config(tmp_path) == (changed, NAMES)  # what a run was last asked for


def test_a_folder_without_a_run_says_how_to_make_one(tmp_path):
    assert reading.find_config(tmp_path) is None
    with pytest.raises(ConfigError, match=f"{tmp_path} holds no run: train one with .*--workdir"):
        reading.read_config(tmp_path)


def test_checkpoints_of_another_configuration_name_the_fields_that_differ(tmp_path):
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        kept.save(small_state(1))
    flow = dataclasses.replace(CONFIG.flow_settings, width=32, coupling="affine")
    other = dataclasses.replace(CONFIG, flow_settings=flow, num_steps=9, log_every=3)
    with Checkpoints(tmp_path, other, NAMES) as kept:
        message = r"configuration: width \(96 there, 32 here\), coupling \(additive .*here\)\. Use"
        with pytest.raises(ConfigError, match=message):
            kept.restore(small_state(0))
    with (
        Checkpoints(tmp_path, CONFIG, ("bounce", "roll")) as kept,
        pytest.raises(ConfigError, match=r"configuration: label_names \(\['bounce', 'fall'\] "),
    ):
        kept.restore(small_state(0))
    more = dataclasses.replace(CONFIG, num_steps=9, log_every=3, data_dir="/elsewhere")
    with Checkpoints(tmp_path, more, NAMES) as kept:
        assert_same(kept.restore(small_state(0)), small_state(1))


def test_training_refuses_a_run_of_another_configuration_and_changes_nothing(
    tiny, run_of, tmp_path
):
    shutil.copytree(run_of("state"), tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ConfigError, match=r"learning_rate \(0\.01 there, 0\.02 here\)"):
        loop.train(tiny(variant="state", learning_rate=0.02), tmp_path)
    assert (tmp_path / "config.json").read_bytes() == before
