"""The fault drill on real training processes that are killed, with short runs of a tiny model.

One fault of each mechanism is tried: a signal, bad data, a damaged checkpoint. The command tries
the others, each of which also has a test of its own in tests/training.
"""

import signal

import jax
import numpy as np
import pytest

from experiments.faults import drill as drills
from experiments.faults import processes, table
from experiments.faults.drill import Drill, Size
from experiments.faults.processes import Failed, Processes
from flowvid.config import config_file
from flowvid.training.checkpoints import reading
from flowvid.training.checkpoints.saving import Checkpoints

pytest_plugins = ["command_line"]


@pytest.fixture(scope="module")
def drill(tmp_path_factory):
    """A drill with short runs of a tinier model, which share their compiled steps."""
    size = Size(num_steps=24, every=6, levels=1, image_size=8, num_frames=4)
    made = Drill(tmp_path_factory.mktemp("drill"), kills=1, seed=0, size=size)
    yield made
    made.close()


@pytest.fixture
def exit_codes(monkeypatch):
    """The exit codes of all processes that are killed."""
    codes = []
    kill = Processes.kill

    def noted(self):
        codes.append(kill(self))
        return codes[-1]

    monkeypatch.setattr(Processes, "kill", noted)
    return codes


def rows_of(drill, *names):
    rows = table.run(drill, table.chosen(names))
    assert [row["name"] for row in rows] == list(names)
    return rows


def test_bad_data_and_a_kill_end_in_the_same_bits(drill, exit_codes):
    (row,) = rows_of(drill, "poison_row")
    assert row["result"] == "pass", row
    assert row["observed"] == "restored from step 17 to 12, data skipped; same bits with a kill"
    assert {-signal.SIGKILL} in exit_codes


def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(drill):
    (row,) = rows_of(drill, "truncated")
    assert row["result"] == "pass", row
    assert row["observed"].startswith("step 24 reported and set aside, resumed from step 18")


def copy_with(drill, change):
    """A folder that holds the uninterrupted run's last state, changed."""
    workdir = drill.uninterrupted()
    settings, names = reading.read_config(workdir)
    folder = drill.folder("changed")
    folder.mkdir()
    config_file.write(settings, names, folder)
    with Checkpoints(folder, settings, names) as saved:
        saved.save(change(drill.final_state(workdir)))
        saved.wait()
    return folder


def test_one_other_bit_fails_the_drill(drill):
    drill.expect_same_bits(copy_with(drill, lambda run: run))
    other_count = copy_with(drill, lambda run: run._replace(examples=run.examples + 1))
    with pytest.raises(Failed, match=r"1 arrays differ \(\.examples\)"):
        drill.expect_same_bits(other_count)

    def flip(run):
        leaf = max(jax.tree.leaves(run.head.params), key=np.size)
        leaf.flat[0] = np.nextafter(leaf.flat[0], np.float32(np.inf))
        return run

    with pytest.raises(Failed, match=r"1 arrays differ \(\.head\.params"):
        drill.expect_same_bits(copy_with(drill, flip))


def test_a_run_that_has_not_ended_fails_the_drill(drill):
    early = copy_with(drill, lambda run: run._replace(step=run.step - 1))
    with pytest.raises(Failed, match="has not ended"):
        drill.expect_same_bits(early)


def test_checkpoints_that_cannot_be_read_fail_the_drill(drill, tmp_path):
    workdir = copy_with(drill, lambda run: run)
    drills.expect_readable(workdir)
    (workdir / "checkpoints" / "24").rename(tmp_path / "24")
    with pytest.raises(Failed, match="no checkpoint is left"):
        drills.expect_readable(workdir)


# The command.


@pytest.fixture
def outcomes(monkeypatch, tmp_path):
    """A drill without runs, whose three faults pass, are skipped and, once this is set, fail."""
    failing = []

    def last(drill):
        if failing:
            raise Failed("other bits")
        return "same bits"

    def skipped(drill):
        raise processes.Skipped("no disk")

    faults = (
        table.Fault("a", "fault a", "same bits", lambda drill: "same bits"),
        table.Fault("b", "fault b", "same bits", skipped),
        table.Fault("c", "fault c", "same bits", last),
    )
    monkeypatch.setattr(table, "FAULTS", faults)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return failing


def test_the_command_prints_the_table_and_removes_the_runs(outcomes, call, tmp_path):
    args = ("--models=mixture", "--kills=2", "--seed=3", "--only=a,b")
    code, out, _ = call("experiments.fault_drill", *args)
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["name", "fault", "expected", "observed", "result", "seconds"]
    assert lines[1][:-1] == "a fault a same bits same bits pass".split()
    assert lines[2][:-1] == "b fault b same bits no disk skip".split()
    assert lines[3] == ["--models=mixture", "--kills=2", "--seed=3"]
    assert not list(tmp_path.glob("fault_drill_*"))


def test_a_fault_that_fails_is_the_commands_exit_code_and_its_runs_are_kept(
    outcomes, call, tmp_path
):
    outcomes.append(True)
    code, out, _ = call("experiments.fault_drill")
    (kept,) = tmp_path.glob("fault_drill_*")
    assert code == f"Some faults did not end as expected; the runs are kept in {kept}."
    assert "other bits" in out
    assert "FAIL" in out


def test_an_unknown_fault_is_refused(call):
    code, _, err = call("experiments.fault_drill", "--only=kill,flood")
    assert code == 1
    assert "error: --only=flood is unknown: use some of kill, kill2," in err
