"""Checkpoints: what is saved comes back bit by bit, from the run's folder alone, or not at all."""

import dataclasses
import shutil
import subprocess
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import assert_same, saved, small_state

from flowvid.config import config_file, schema
from flowvid.errors import ConfigError, TrainingError
from flowvid.training import loop, trainer
from flowvid.training.checkpoints import reading, run_state
from flowvid.training.checkpoints.saving import Checkpoints
from flowvid.video import joint

pytest_plugins = ["system_fixtures"]

CONFIG = schema.preset_config("small")
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


@pytest.mark.parametrize("variant", schema.VARIANTS)
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


# Damage.


@pytest.fixture(scope="module")
def two_saved(tmp_path_factory):
    """The workdir of a run with checkpoints of the steps 1 and 2."""
    workdir = tmp_path_factory.mktemp("two")
    with Checkpoints(workdir, CONFIG, NAMES) as kept:
        for step in (1, 2):
            kept.save(small_state(step))
    return workdir


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_checkpoint_is_never_taken_for_a_good_one(two_saved, tmp_path, damage):
    """Whichever file is damaged: the newest comes back whole, or the one before with a warning."""
    newest = two_saved / "checkpoints" / "2"
    files = [path.relative_to(newest) for path in newest.rglob("*") if path.is_file()]
    taken = set()
    for number, file in enumerate(files):
        workdir = tmp_path / str(number)
        shutil.copytree(two_saved, workdir)
        DAMAGE[damage](workdir / "checkpoints" / "2" / file)
        with Checkpoints(workdir, CONFIG, NAMES) as kept:
            restored = kept.restore(small_state(0))
            step = int(restored.step)
            taken.add(step)
            assert_same(restored, small_state(step))
            assert kept.steps() == ([1, 2] if step == 2 else [1])
            assert (workdir / "damaged" / "2").exists() == (step == 1)
    assert 1 in taken


def test_a_damaged_step_can_be_saved_again_and_damaged_again(two_saved, tmp_path, caplog):
    shutil.copytree(two_saved, tmp_path, dirs_exist_ok=True)
    for damaged in ({"2"}, {"2", "2-2"}):
        shutil.rmtree(tmp_path / "checkpoints" / "2" / "state" / "d")
        with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
            caplog.clear()
            assert_same(kept.restore(small_state(0)), small_state(1))
            assert "The checkpoint of step 2 in" in caplog.text
            assert {path.name for path in (tmp_path / "damaged").iterdir()} == damaged
            kept.save(small_state(2))
            assert_same(kept.restore(small_state(0)), small_state(2))


def test_nothing_is_moved_when_no_checkpoint_can_be_read(two_saved, tmp_path):
    shutil.copytree(two_saved, tmp_path, dirs_exist_ok=True)
    for step in ("1", "2"):
        shutil.rmtree(tmp_path / "checkpoints" / step / "state")
    with (
        Checkpoints(tmp_path, CONFIG, NAMES) as kept,
        pytest.raises(TrainingError, match=r"none of the 2 checkpoints in .* can be used"),
    ):
        kept.restore(small_state(0))
    assert not (tmp_path / "damaged").exists()


def test_parameters_are_read_from_the_checkpoint_before_a_damaged_one(two_saved, tmp_path, caplog):
    shutil.copytree(two_saved, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints" / "2" / "state" / "d")
    params, step = reading.restore_params(tmp_path, TEMPLATE)
    assert step == 1
    assert_same(params, {"head": small_state(1).head.params})
    assert "cannot be read" in caplog.text
    assert (tmp_path / "checkpoints" / "2").exists()  # reading changes nothing
    with pytest.raises(TrainingError, match=r"the checkpoint of step 2 in .* cannot be read"):
        reading.restore_params(tmp_path, TEMPLATE, checkpoint="2")


def test_a_rollback_ends_at_a_restore_point_and_sets_only_damaged_checkpoints_aside(tmp_path):
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        for step, in_a_row in ((1, 0), (2, 0), (3, 1)):
            kept.save(small_state(step, in_a_row=in_a_row), restore_point=not in_a_row)
        assert_same(kept.restore(small_state(0)), small_state(3, in_a_row=1))
        restored = kept.restore(small_state(0), usable=run_state.is_restore_point)
        assert_same(restored, small_state(2))
        assert kept.steps() == reading.saved_steps(tmp_path) == [1, 2]
        assert not (tmp_path / "damaged").exists()  # step 3 was intact
        kept.save(small_state(3))
        kept.save(small_state(4, in_a_row=1), restore_point=False)
        kept.wait()
        shutil.rmtree(tmp_path / "checkpoints" / "3" / "state")
        restored = kept.restore(small_state(0), usable=run_state.is_restore_point)
        assert_same(restored, small_state(2))
        assert kept.steps() == [1, 2]
        assert [path.name for path in (tmp_path / "damaged").iterdir()] == ["3"]


def test_a_step_that_orbax_declines_to_save_is_an_error(tmp_path):
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        kept.save(small_state(2))
        with pytest.raises(RuntimeError, match=r"step 1 was not saved beside the steps \[2\]"):
            kept.save(small_state(1))


def test_half_of_a_checkpoint_is_swept_away(two_saved, tmp_path):
    """What a run leaves that is killed while it saves: a folder of another name."""
    shutil.copytree(two_saved, tmp_path, dirs_exist_ok=True)
    half = tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints" / "2" / "state", half / "state")
    assert reading.restore_params(tmp_path, TEMPLATE)[1] == 2
    assert half.exists()  # a reader leaves it alone: the run may be saving it
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        assert int(kept.restore(small_state(0)).step) == 2
        kept.save(small_state(3))
    assert not half.exists()
    assert reading.saved_steps(tmp_path) == [1, 2, 3]


# A full disk.


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("told", ["beforehand", "while it writes"])
def test_a_full_disk_is_told_and_every_finished_checkpoint_stays(small_disk, monkeypatch, told):
    if told == "while it writes":  # somebody else fills it meanwhile
        monkeypatch.setattr(Checkpoints, "_check_space", lambda self, state: None)
        monkeypatch.setattr(threading, "excepthook", lambda *args: None)
    large = lambda step: small_state(step, size=200_000)  # noqa: E731  (0.8 MB)
    message = rf"no space is left on the disk of {small_disk}/checkpoints, .* again to resume"
    with (
        pytest.raises(TrainingError, match=message),
        Checkpoints(small_disk, CONFIG, NAMES) as kept,
    ):
        for step in (1, 2, 3, 4, 5):
            kept.save(large(step))
            kept.wait()
    finished = reading.saved_steps(small_disk)
    assert finished == [1, 2, 3]
    for step in finished:
        params, _ = reading.restore_params(
            small_disk, {"head": large(0).head.params}, checkpoint=str(step)
        )
        assert_same(params, {"head": large(step).head.params})
    shutil.rmtree(small_disk / "checkpoints" / "1")
    with Checkpoints(small_disk, CONFIG, NAMES) as kept:  # room was made: it goes on
        assert_same(kept.restore(large(0)), large(3))
        kept.save(large(4))
    assert reading.saved_steps(small_disk) == [2, 3, 4]


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path, monkeypatch):
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        for raised in (PermissionError(13, "Permission denied"), ValueError("RESOURCE_EXHAUSTED")):
            monkeypatch.setattr(kept, "_check_space", lambda state, raised=raised: _raise(raised))
            with pytest.raises(type(raised)):
                kept.save(small_state(1))


def _raise(error):
    raise error
