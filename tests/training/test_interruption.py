"""Signals save and end a run between two steps, and only one process trains in a folder."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from command_line import assert_one_line, finish, start
from helpers import TINY, assert_same, events

from flowvid.errors import Stopped, TrainingError
from flowvid.training import loop
from flowvid.training.progress import Reporter
from flowvid.training.resilience import interruption

pytest_plugins = ["system_fixtures", "command_line"]
pytestmark = pytest.mark.usefixtures("compiled_once")

SIGNALS = [signal.SIGTERM, signal.SIGINT]
HOLD = """
import pathlib, sys, time
from flowvid.training.resilience import interruption
with interruption.only_one(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_process_alone_trains_in_a_folder(tmp_path):
    with (
        interruption.only_one(tmp_path),
        pytest.raises(TrainingError, match=f"another process is training in {tmp_path}: wait"),
        interruption.only_one(tmp_path),
    ):
        pass
    with interruption.only_one(tmp_path):  # it was given back
        pass


def test_a_killed_process_leaves_no_lock_behind(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TrainingError), interruption.only_one(tmp_path):
            pass
        holder.kill()
    with interruption.only_one(tmp_path):
        pass


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_recorded_and_the_second_acts(number, capsys):
    acted = []
    before = signal.signal(number, lambda *_: acted.append(number))
    try:
        with interruption.StopRequest() as stop:
            assert stop.received is None
            os.kill(os.getpid(), number)
            assert stop.received == number
            assert not acted
            assert f"{number.name}: saving after this step" in capsys.readouterr().err
            os.kill(os.getpid(), number)
            assert acted == [number]
        os.kill(os.getpid(), number)
        assert acted == [number] * 2
    finally:
        signal.signal(number, before)


def test_other_threads_may_train_too():
    handlers = [signal.getsignal(number) for number in SIGNALS]
    seen = []

    def enter():
        with interruption.StopRequest():
            seen.extend(signal.getsignal(number) for number in SIGNALS)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == handlers


def test_a_run_stopped_by_a_signal_resumes_and_ends_with_the_same_bits(
    tiny, run_of, tmp_path, monkeypatch
):
    logged = Reporter.steps_logged

    def signal_in_step_3(self, step, metrics):
        logged(self, step, metrics)
        if step == 3:  # no checkpoint is due
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "steps_logged", signal_in_step_3)
        message = rf"SIGINT: stopped and saved at step 3 of {tmp_path}\. Run the same command"
        with pytest.raises(Stopped, match=message) as stopped:
            loop.train(tiny(variant="state"), tmp_path)
    assert stopped.value.number == signal.SIGINT
    assert (tmp_path / "checkpoints" / "3").exists()
    resumed = loop.train(tiny(variant="state"), tmp_path)
    assert_same(resumed, loop.train(tiny(variant="state"), run_of("state")))


def test_a_validation_that_a_signal_skipped_is_made_after_resuming(tiny, tmp_path, monkeypatch):
    def signal_at_once(self, step, metrics):
        os.kill(os.getpid(), signal.SIGTERM)

    config = tiny(variant="prev_frame", num_steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "steps_logged", signal_at_once)
        with pytest.raises(Stopped, match="saved at step 1"):
            loop.train(config, tmp_path)
    assert (tmp_path / "checkpoints" / "1").exists()
    validated = "validation/head/bits_per_dim_5-bit"
    assert validated not in events(tmp_path)
    loop.train(config, tmp_path)
    assert set(events(tmp_path)[validated]) == {1}


def test_a_process_refuses_a_second_one_and_stops_on_sigterm(data_dir, tmp_path, call):
    fields = {**TINY, "data_dir": data_dir, "workdir": tmp_path, "num_steps": 100_000}
    args = [f"--{name}={value}" for name, value in fields.items()]
    process = start("train", *args)
    deadline = time.monotonic() + 240
    while not (tmp_path / "checkpoints" / "2").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert_one_line(call("train", *args), f"another process is training in {tmp_path}")
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 128 + signal.SIGTERM, err
    assert "Traceback" not in err
    step = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert f"SIGTERM: stopped and saved at step {step} of {tmp_path}." in err
