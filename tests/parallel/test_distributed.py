"""Several processes train, evaluate, stop and resume as one process does."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import optax
import pytest
from command_line import ROOT, assert_one_line, finish, finish_all, start, start_together
from helpers import TINY, assert_same, events, saved

from flowvid.errors import ConfigError
from flowvid.parallel import processes
from flowvid.training.checkpoints import reading
from flowvid.training.resilience import interruption

pytest_plugins = ["system_fixtures", "command_line"]


def train_flags(data_dir, workdir, **changes):
    # With the learning rate of TINY the loss is noisy, and amplifies rounding errors.
    run = {"data_dir": data_dir, "workdir": workdir, "variant": "state", "learning_rate": 1e-4}
    run |= {"num_steps": 24, "checkpoint_every": 12, "eval_every": 12}  # long enough to be killed
    fields = TINY | run | changes
    return [f"--{name}={value}" for name, value in fields.items()]


@pytest.fixture(scope="module")
def together(data_dir, tmp_path_factory):
    """The workdir of a run of two processes with two devices each, and what they printed."""
    workdir = tmp_path_factory.mktemp("together")
    return workdir, finish_all(start_together("train", *train_flags(data_dir, workdir)))


@pytest.fixture(scope="module")
def alone(data_dir, tmp_path_factory):
    """The workdir of the same run by one process with four devices."""
    workdir = tmp_path_factory.mktemp("alone")
    code, _, err = finish(start("train", *train_flags(data_dir, workdir), devices=4))
    assert code == 0, err
    return workdir


def test_two_processes_train_what_one_trains(together, alone):
    """They differ by rounding, since sums over the devices are taken in another order."""
    workdir, results = together
    assert [code for code, _, _ in results] == [0, 0], results
    starts, ends = ([saved(folder, step) for folder in (workdir, alone)] for step in (0, 24))
    assert [(int(end.step), int(end.examples)) for end in ends] == [(24, 96)] * 2
    assert_same(*starts)  # ActNorm is set from the global batch
    for tag, values in events(alone).items():
        if "bits_per_dim" in tag:
            assert events(workdir)[tag] == pytest.approx(values, rel=1e-4), tag
    for model in ("head", "tail"):
        ours, theirs = (
            jax.tree.map(np.subtract, getattr(end, model).params, getattr(start, model).params)
            for start, end in zip(starts, ends, strict=True)
        )
        # Adam's first steps have the same length where the gradient is almost zero, and rounding
        # decides its sign there: so the tolerance is not 1e-6 of the change.
        difference = optax.tree.norm(jax.tree.map(np.subtract, ours, theirs))
        assert difference < 2e-3 * optax.tree.norm(theirs)
        assert difference < 1e-5 * optax.tree.norm(getattr(ends[1], model).params)


def test_only_the_first_process_writes_and_prints(together):
    workdir, ((_, first, _), (_, second, _)) = together
    assert len(list(workdir.glob("events.out.tfevents.*"))) == 1
    assert "is trained to step 24" in first
    assert not [line for line in second.splitlines() if not line.startswith("[Gloo]")]


def test_they_evaluate_as_one(together, alone, call):
    workdir, _ = together
    results = finish_all(start_together("evaluate", f"--workdir={workdir}", "--metrics=5-bit"))
    assert [code for code, _, _ in results] == [0, 0], results
    ours = json.loads((workdir / "evaluation.json").read_text())["metrics"]["5-bit"]
    assert ["Written to" in out for _, out, _ in results] == [True, False]
    assert call("evaluate", f"--workdir={workdir}", "--metrics=5-bit")[0] == 0  # two devices
    theirs = json.loads((workdir / "evaluation.json").read_text())["metrics"]["5-bit"]
    for model in ("head", "tail"):
        for key in ours[model]:
            np.testing.assert_allclose(ours[model][key], theirs[model][key], rtol=1e-5)


def wait_for_checkpoint(processes, workdir, step):
    deadline = time.monotonic() + 240
    while not (workdir / "checkpoints" / str(step)).exists():
        assert all(p.poll() is None for p in processes), finish_all(processes)
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_and_resumed_they_have_the_same_bits_and_stop_at_one_step(
    data_dir, together, tmp_path
):
    """The resumed run passes the other run's last step, until one of its processes has a signal."""
    unvalidated = {"eval_every": 100_000}  # which changes no bit of the state
    processes = start_together("train", *train_flags(data_dir, tmp_path, **unvalidated))
    wait_for_checkpoint(processes, tmp_path, 12)
    for process in processes:
        process.kill()
    assert [code for code, _, _ in finish_all(processes)] == [-signal.SIGKILL] * 2
    assert 24 not in reading.saved_steps(tmp_path)
    endless = train_flags(data_dir, tmp_path, num_steps=100_000, checkpoint_every=24, **unvalidated)
    processes = start_together("train", *endless)
    wait_for_checkpoint(processes, tmp_path, 24)
    # Before newer checkpoints replace it.
    shutil.copytree(tmp_path / "checkpoints" / "24", tmp_path / "kept" / "checkpoints" / "24")
    processes[1].send_signal(signal.SIGTERM)
    results = finish_all(processes)
    assert [code for code, _, _ in results] == [128 + signal.SIGTERM] * 2, results
    assert f"Resuming from step 12 of {tmp_path}." in results[0][1]
    said = [re.search(r"SIGTERM: stopped and saved at step (\d+)", err) for _, _, err in results]
    assert said[0].group(1) == said[1].group(1) == str(reading.saved_steps(tmp_path)[-1])
    shutil.copy(tmp_path / "config.json", tmp_path / "kept")
    assert_same(saved(tmp_path / "kept", 24), saved(together[0], 24))


def test_a_run_resumes_with_another_number_of_devices(data_dir, alone, tmp_path, call):
    """With one, and with the two that this process has."""
    assert jax.local_device_count() == 2
    with_one = lambda *args: finish(start(*args, devices=1))  # noqa: E731
    ends = []
    for resume in (with_one, call):
        workdir = tmp_path / str(len(ends))
        shutil.copytree(alone, workdir)
        code, out, err = resume("train", *train_flags(data_dir, workdir, num_steps=30))
        assert code == 0, err
        assert f"Resuming from step 24 of {workdir}." in out  # begun with four
        ends.append(saved(workdir, 30))
    one, two = ends
    assert int(one.examples) == int(two.examples) == 120
    for model in ("head", "tail"):
        ours, theirs, before = (getattr(run, model).params for run in (*ends, saved(alone, 24)))
        difference = optax.tree.norm(jax.tree.map(np.subtract, ours, theirs))
        assert difference < 1e-2 * optax.tree.norm(jax.tree.map(np.subtract, theirs, before))


MEET = """
import jax
from flowvid.parallel import processes
processes.start(None, None, None)
print(f"process {jax.process_index()} of {jax.process_count()}, {processes.any_process(7)}")
"""


def test_the_tasks_of_a_slurm_job_find_each_other():
    with socket.socket() as free:
        while True:  # the port that JAX makes of a job's number
            job = random.randrange(2**12)
            try:
                free.bind(("", 65535 - 2**12 + 1 + job))
                break
            except OSError:
                continue
    shared = {"SLURM_JOB_ID": f"{job}", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", MEET],
            cwd=ROOT,
            env=os.environ | shared | {"SLURM_PROCID": f"{i}", "SLURM_LOCALID": f"{i}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    for i, (code, out, err) in enumerate(finish_all(tasks)):
        assert code == 0, err
        assert f"process {i} of 2, 7" in out


def test_all_are_refused_where_another_trains(data_dir, alone):
    with interruption.only_one(alone):
        results = finish_all(start_together("train", *train_flags(data_dir, alone)))
    for result in results:
        assert_one_line(result, f"another process is training in {alone}")


# Flags that are refused at the start.


def test_one_process_is_its_own_first():
    assert processes.is_first()
    processes.wait("nobody")
    assert processes.broadcast(7) == 7
    with processes.first_goes_first("nothing"):
        pass


@pytest.mark.parametrize("entry", ["train", "evaluate"])
def test_addresses_need_the_flag_and_each_other(call, tmp_path, entry):
    result = call(entry, f"--workdir={tmp_path}", "--coordinator=localhost:1")
    assert_one_line(result, "--coordinator, --num_processes and --process_id need --distributed")
    result = call(entry, f"--workdir={tmp_path}", "--distributed", "--process_id=0")
    assert_one_line(result, "--coordinator and --num_processes must be given, too: use")


def test_where_nothing_is_found_the_flags_are_named(monkeypatch):
    def refuse(*args, **kwargs):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    with pytest.raises(ConfigError, match=r"no TPU pod .* \(coord.*--coordinator=host"):
        processes.start(None, None, None)
