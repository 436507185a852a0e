"""Runs in processes: trained, evaluated, skipped when they are done, and their share of cores."""

import json
import os

import pytest
from helpers import TINY

from experiments.running import run_processes
from experiments.running.run_processes import Run, carry_out
from flowvid.errors import TrainingError

pytest_plugins = ["system_fixtures"]


def test_a_run_is_trained_evaluated_and_then_left_alone(tmp_path, data_dir):
    train = TINY | {"variant": "init", "data_dir": str(data_dir)}
    del train["num_steps"]
    run = Run(tmp_path / "init", train, {"num_videos": 2, "metrics": "paper"})
    carry_out([run], jobs=2)
    report = json.loads((run.workdir / "evaluation.json").read_text())
    assert (report["variant"], report["step"], report["num_videos"]) == ("init", 0, 2)
    assert run.is_done()
    assert "flowvid.evaluate" in run.log.read_text()
    before = run.log.read_text()
    carry_out([run], jobs=1)
    assert run.log.read_text() == before
    other = Run(run.workdir, train, {"num_videos": 3})
    assert not other.is_done()


def test_a_run_that_fails_says_where_to_look(tmp_path):
    run = Run(tmp_path / "bad", {"variant": "state", "width": 0}, None)
    with pytest.raises(TrainingError, match="--width=0 must be at least 1") as error:
        carry_out([run], jobs=1)
    assert str(run.log) in str(error.value)
    assert not run.is_done()


def test_a_process_stays_on_its_cores(monkeypatch, tmp_path):
    program = "import os, time; time.sleep(0.3); print('cores', os.sched_getaffinity(0))"
    monkeypatch.setattr(Run, "commands", lambda self: [["-c", program]])
    core = max(os.sched_getaffinity(0))
    run = Run(tmp_path, {}, None)
    run.carry_out({}, [core])
    assert f"cores {{{core}}}" in run.log.read_text()


def test_jobs_share_the_cores_and_gpus_take_turns(monkeypatch, tmp_path):
    monkeypatch.setattr(run_processes.os, "sched_getaffinity", lambda _: {0, 1, 2, 5, 7})
    assert run_processes._shares(2) == [[0, 2, 7], [1, 5]]
    assert run_processes._shares(1) == [None]
    assert run_processes._shares(7)[5:] == [[0], [1]]
    seen = []
    monkeypatch.setattr(
        Run, "carry_out", lambda self, environment, cores: seen.append((environment, cores))
    )
    planned = [Run(tmp_path / str(i), {}, None) for i in range(4)]
    carry_out(planned, jobs=1, gpus=["4", "6"])
    assert {environment["CUDA_VISIBLE_DEVICES"] for environment, _ in seen} <= {"4", "6"}
    assert [cores for _, cores in seen] == [None] * 4
