"""Decoding files in processes that may crash, hang or lose their parent."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_builders import files
from data_builders.listing import Item

ROOT = Path(__file__).parents[2]


def items_named(names):
    return [Item(id=str(name), label="", path=str(name)) for name in names]


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until(condition, seconds=60):
    """Whether a condition becomes true within some time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


# Decoders, which other processes import from here.


def act(item):
    """Does what the item's path says; gives frames full of its length where that is nothing."""
    match item.path:
        case "exit":
            os._exit(3)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(600)
        case "bad":
            return "a reason"
    return np.full((2, 8, 8, 3), len(item.path), np.uint8)


def slower_first(item):
    """The earlier an item, the longer it takes."""
    time.sleep(0.2 / (1 + int(item.id)))
    return item.id


def note(folder, item):
    """Leaves a file that names the item and the process."""
    Path(folder, f"{item.id} {os.getpid()}").touch()
    return item.id


def note_and_hang(folder, item):
    note(folder, item)
    time.sleep(600)
    return item.id


def module_names(item):
    del item
    return " ".join(sorted(sys.modules))


# Decoding in parallel.


def test_results_come_in_the_order_of_the_items():
    items = items_named(range(30))
    results = list(files.decode_in_parallel(slower_first, items, 3))
    assert results == [(item, item.id) for item in items]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_crash_takes_one_item_with_it(processes):
    actions = ["fine", "exit", "crash", "bad", "longer", "exit", "fine"]
    outcomes = files.decode_in_parallel(act, items_named(actions), processes)
    results = [result if isinstance(result, str) else result.max() for _, result in outcomes]
    crashed = "the decoder crashed"
    assert results == [4, crashed, crashed, "a reason", 6, crashed, 4]


def test_a_decoder_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(files, "_HARD_SECONDS", 1)
    outcomes = files.decode_in_parallel(act, items_named(["hang", "fine", "hang", "bad"]), 2)
    results = [result for _, result in outcomes]
    assert results[0] == results[2] == "the decoder hung for 1 seconds"
    assert results[3] == "a reason"
    np.testing.assert_array_equal(results[1], np.full((2, 8, 8, 3), 4))


def test_nothing_to_decode():
    assert list(files.decode_in_parallel(act, [], 2)) == []


def test_few_frames_are_held_and_all_processes_end(tmp_path):
    decode = functools.partial(note, str(tmp_path))
    outcomes = files.decode_in_parallel(decode, items_named(range(40)), 2)
    assert next(outcomes)[1] == "0"
    assert wait_until(lambda: len(list(tmp_path.iterdir())) == 8)
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == 8  # 4 for each process, of which 1 was taken
    pids = {path.name.split()[1] for path in tmp_path.iterdir()}
    assert all(is_running(pid) for pid in pids)
    outcomes.close()
    assert not any(is_running(pid) for pid in pids)


def test_who_stops_asking_does_not_wait_for_a_slow_decoder():
    outcomes = files.decode_in_parallel(act, items_named(["fine", *["hang"] * 5]), 2)
    next(outcomes)
    start = time.monotonic()
    outcomes.close()
    assert time.monotonic() - start < files._HARD_SECONDS / 4


def test_a_decoder_that_was_killed_before_it_had_started_never_decodes():
    decoder = files.Decoder(act)
    decoder.kill()
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="could not start"):
        decoder(*items_named(["hang"]))
    assert time.monotonic() - start < files._HARD_SECONDS / 4
    decoder.process.join(60)
    assert decoder.process.exitcode == -signal.SIGKILL
    decoder.stop()


def test_decoders_import_little():
    ((_, names),) = files.decode_in_parallel(module_names, items_named(["x"]), 1)
    assert "flowvid.data.decoding" in names.split()
    assert not {"tensorflow", "tensorflow_datasets", "jax"} & set(names.split())


def test_a_crash_ends_no_worker_of_beam():
    from data_builders.beam_decoding import Decode  # here: other processes import this file

    crash, fine = items_named(["crash", "fine"])
    step = Decode(act)
    step.setup()
    assert list(step.process(crash)) == [(crash, "the decoder crashed")]
    ((item, frames),) = step.process(fine)
    assert (item, frames.max()) == (fine, 4)
    pid = step.decoder.process.pid
    step.teardown()
    assert not is_running(pid)


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_decoders_end_with_the_process_that_started_them(tmp_path, kill):
    code = (
        "import functools, sys, test_decoders\n"
        "from data_builders import files\n"
        "decode = functools.partial(test_decoders.note_and_hang, sys.argv[1])\n"
        "list(files.decode_in_parallel(decode, test_decoders.items_named(range(9)), 2))"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    parent = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    assert wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    pids = [path.name.split()[1] for path in tmp_path.iterdir()]
    assert all(is_running(pid) for pid in pids)
    parent.send_signal(kill)  # the parent alone
    parent.wait(timeout=30)
    assert wait_until(lambda: not any(is_running(pid) for pid in pids), seconds=10)
