"""Damaged checkpoints and full disks: nothing damaged is restored, and nothing intact is lost."""

import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from helpers import assert_same, small_state

from flowvid.config import making
from flowvid.errors import TrainingError
from flowvid.training.checkpoints import reading, run_state
from flowvid.training.checkpoints.saving import Checkpoints

CONFIG = making.preset_config("paper_small")
NAMES = ("bounce", "fall")
TEMPLATE = {"head": small_state(0).head.params}


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
    """Whichever file is damaged, the newest checkpoint is restored intact, or the one before."""
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


def test_a_checkpoint_with_damaged_metrics_has_no_validation(tmp_path):
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        for step, bits in ((1, 1.0), (2, 2.0), (3, 3.0)):
            kept.save(small_state(step), bits_per_dim=bits)
    (tmp_path / "checkpoints" / "1" / "metrics" / "metrics").write_text('{"bits_per')
    assert reading.restore_params(tmp_path, TEMPLATE, checkpoint="best")[1] == 2
    with Checkpoints(tmp_path, CONFIG, NAMES) as kept:
        assert [kept.validation(step) for step in (1, 2)] == [None, 2.0]
        assert_same(kept.restore(small_state(0)), small_state(3))


def test_a_partial_checkpoint_is_deleted(two_saved, tmp_path):
    """A run that is killed while it saves leaves a folder with a temporary name."""
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


@pytest.mark.parametrize("noticed", ["beforehand", "while it writes"])
def test_a_full_disk_is_reported_and_finished_checkpoints_stay(small_disk, monkeypatch, noticed):
    if noticed == "while it writes":  # somebody else fills it meanwhile
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
