"""Checkpoints: what is saved comes back bit by bit, from the run's folder alone."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import assert_same

from flowvid import checkpoints, model, training
from flowvid import config as config_lib
from flowvid.errors import ConfigError, TrainingError

pytest_plugins = ["system_fixtures"]


def test_a_state_comes_back_as_it_was_saved(tiny, tmp_path):
    config, dataset, _ = training.prepare(tiny(variant="state_label"))
    rng = np.random.default_rng(0)
    template = training.state_template(config)
    state = jax.tree.map(lambda x: np.asarray(rng.integers(0, 100, x.shape) / 7, x.dtype), template)
    state = state._replace(step=np.asarray(3), examples=np.asarray(2**40))
    with checkpoints.manager(tmp_path) as manager:
        assert checkpoints.restore(manager, template) is None
        checkpoints.save(manager, state)
    with checkpoints.manager(tmp_path) as manager:
        restored = checkpoints.restore(manager, template)
    assert type(restored) is checkpoints.RunState
    assert_same(restored, state)
    assert len(dataset) == 12  # the template needs the labels, not the clips


def test_the_last_ones_are_kept_and_the_newest_is_taken(tmp_path):
    def state(step, value):
        return checkpoints.RunState(
            {"x": np.float32([value])}, {}, np.asarray(step), np.asarray(8 * step)
        )

    with checkpoints.manager(tmp_path, keep=2) as manager:
        for step in (1, 2, 3):
            checkpoints.save(manager, state(step, step))
        checkpoints.save(manager, state(3, -1))  # a step that is there already
        manager.wait_until_finished()
        assert sorted(manager.all_steps()) == [2, 3]
        assert_same(checkpoints.restore(manager, state(0, 0)), state(3, 3))


@pytest.mark.parametrize("variant", config_lib.VARIANTS)
def test_parameters_come_back_from_a_workdir_alone(run_of, variant):
    workdir = run_of(variant)
    config, _ = config_lib.read(workdir)
    with checkpoints.manager(workdir) as manager:
        run = checkpoints.restore(manager, training.state_template(config))
    params, step = checkpoints.restore_params(workdir, model.params_template(config))
    assert step == int(run.step) == config.num_steps
    assert_same(params, {"head": run.head.params, "tail": run.tail.params})


def test_a_run_without_a_checkpoint_says_so(tiny, tmp_path):
    config = tiny(num_labels=8)
    config_lib.write(config, ("a",) * 8, tmp_path)
    with pytest.raises(ConfigError, match=f"{tmp_path} holds no checkpoint yet: let `python -m"):
        checkpoints.restore_params(tmp_path, model.params_template(config))


# Damage.


def small_state(step):
    """A state in which one array is large enough for a file of its own."""
    rng = np.random.default_rng(step)
    params = {"large": rng.normal(size=(1000,)).astype(np.float32), "small": np.float32([step])}
    return checkpoints.RunState({"params": params}, {}, np.asarray(step), np.asarray(8 * step))


@pytest.fixture(scope="module")
def two_saved(tmp_path_factory):
    """The workdir of a run with checkpoints of the steps 1 and 2."""
    workdir = tmp_path_factory.mktemp("two")
    with checkpoints.manager(workdir) as manager:
        for step in (1, 2):
            checkpoints.save(manager, small_state(step))
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
        with checkpoints.manager(workdir) as manager:
            restored = checkpoints.restore(manager, small_state(0))
            step = int(restored.step)
            taken.add(step)
            assert_same(restored, small_state(step))
            assert manager.all_steps() == ([1, 2] if step == 2 else [1])
            assert (workdir / "damaged" / "2").exists() == (step == 1)
    assert 1 in taken


def test_a_damaged_step_can_be_saved_again_and_damaged_again(two_saved, tmp_path, caplog):
    shutil.copytree(two_saved, tmp_path, dirs_exist_ok=True)
    for damaged in ({"2"}, {"2", "2-2"}):
        shutil.rmtree(tmp_path / "checkpoints" / "2" / "default" / "d")
        with checkpoints.manager(tmp_path) as manager:
            caplog.clear()
            assert_same(checkpoints.restore(manager, small_state(0)), small_state(1))
            assert "The checkpoint of step 2 in" in caplog.text
            assert {path.name for path in (tmp_path / "damaged").iterdir()} == damaged
            checkpoints.save(manager, small_state(2))
            manager.wait_until_finished()
            assert_same(checkpoints.restore(manager, small_state(0)), small_state(2))


def test_nothing_is_moved_when_no_checkpoint_can_be_read(two_saved, tmp_path):
    shutil.copytree(two_saved, tmp_path, dirs_exist_ok=True)
    for step in ("1", "2"):
        shutil.rmtree(tmp_path / "checkpoints" / step / "default")
    with (
        checkpoints.manager(tmp_path) as manager,
        pytest.raises(TrainingError, match=r"none of the 2 checkpoints in .* can be read"),
    ):
        checkpoints.restore(manager, small_state(0))
    assert not (tmp_path / "damaged").exists()


def test_parameters_are_read_from_the_checkpoint_before_a_damaged_one(two_saved, tmp_path, caplog):
    shutil.copytree(two_saved, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints" / "2" / "default" / "d")
    template = {"head": small_state(0).head["params"]}
    params, step = checkpoints.restore_params(tmp_path, template)
    assert step == 1
    assert_same(params, {"head": small_state(1).head["params"]})
    assert "cannot be read" in caplog.text
    assert (tmp_path / "checkpoints" / "2").exists()  # reading changes nothing
