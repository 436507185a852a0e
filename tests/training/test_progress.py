"""The progress bar while a step is compiled, and after a rollback."""

import re
import threading
import time
from types import SimpleNamespace

import jax
import pytest
from helpers import small_state
from tensorboard.backend.event_processing import event_accumulator

from flowvid.config.making import preset_config
from flowvid.training import loop, progress


@pytest.fixture
def reporter(tmp_path):
    made = progress.Reporter(preset_config("paper_small", num_frames=1), tmp_path, small_state(0))
    yield made
    made.close()


def test_compiling_is_shown_and_how_long_it_took(reporter):
    reporter.show(head="5.000", other="stays")
    with reporter.compiling("head"):
        assert reporter.shown == {"head": "compiling", "other": "stays"}
    assert re.fullmatch(r"compiled in \d+ s", reporter.shown["head"])
    assert reporter.shown["other"] == "stays"


def test_the_seconds_that_pass_are_shown(reporter, monkeypatch):
    class Impatient(threading.Event):
        """Waits a thousandth of what it is asked to."""

        def wait(self, timeout=None):
            return super().wait(timeout / 1000)

    counted, show = threading.Event(), reporter.show

    def watched(**values):
        show(**values)
        if "compiling, " in values["head"]:
            counted.set()

    monkeypatch.setattr(reporter, "show", watched)
    impatient = SimpleNamespace(Event=Impatient, Thread=threading.Thread)
    monkeypatch.setattr(progress, "threading", impatient)
    with reporter.compiling("head"):
        assert counted.wait(30)
        assert re.fullmatch(r"compiling, \d+ s", reporter.shown["head"])
    assert reporter.shown["head"].startswith("compiled in ")


@pytest.mark.parametrize("processes", [1, 2])
def test_with_several_processes_nothing_is_said_to_be_compiled(reporter, monkeypatch, processes):
    """There the first step compiles."""
    compiled = []
    trainer = SimpleNamespace(step=0, compile=compiled.append)
    of_loop = SimpleNamespace(
        trainer=trainer, num_steps=1, reporter=reporter, config=reporter.config
    )
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    loop._Loop._compile(of_loop)
    assert compiled == (["head"] if processes == 1 else [])
    assert ("head" in reporter.shown) == (processes == 1)


def test_a_rollback_moves_the_bar_and_what_it_counts_from(reporter):
    """The bar redraws itself only once it has passed the step that it was drawn at last."""
    reporter.bar.mininterval = 0
    reporter.bar.update(900)
    assert reporter.bar.last_print_n == 900
    reporter.roll_back(small_state(3))
    assert reporter.bar.n == 3
    assert reporter.bar.last_print_n <= 3
    assert reporter._clipped == {"head": (3, 0)}


@pytest.mark.parametrize("fails", [False, True])
def test_the_seconds_stop_once_the_step_is_compiled(reporter, fails):
    before = set(threading.enumerate())
    try:
        with reporter.compiling("tail"):
            (counting,) = set(threading.enumerate()) - before
            assert counting.is_alive()
            if fails:
                raise MemoryError
    except MemoryError:
        assert fails
    assert not counting.is_alive()
    shown = "not compiled" if fails else "compiled in 0 s"
    assert reporter.shown["tail"] == shown


def test_a_full_disk_at_the_end_is_a_warning_and_hides_no_other_error(tmp_path, caplog):
    made = progress.Reporter(preset_config("paper_small", num_frames=1), tmp_path, small_state(0))

    def full():
        raise OSError(28, "No space left on device")

    made.writer.close, close = full, made.writer.close
    with pytest.raises(ValueError, match="no space is left on the disk of"):
        try:
            raise ValueError("no space is left on the disk of /x: make room")
        finally:
            made.close()
    assert "TensorBoard events are lost: [Errno 28] No space left" in caplog.text
    close()


def logged(workdir):
    """The steps and values that TensorBoard shows of a run."""
    events = event_accumulator.EventAccumulator(str(workdir)).Reload()
    return [(event.step, event.value) for event in events.Scalars("head/bits_per_dim_5-bit")]


def log(reporter, steps, value):
    for step in steps:
        reporter.log(step, "head", {"bits_per_dim": value})


@pytest.mark.parametrize("restored", [0, 2, 4])
def test_steps_that_a_resumed_run_takes_again_are_shown_once(tmp_path, monkeypatch, restored):
    config = preset_config("paper_small", num_frames=1)
    killed = progress.Reporter(config, tmp_path, small_state(0))
    log(killed, range(7), 1.0)
    killed.close()
    now = time.time() + 10  # files of one second would have one name
    monkeypatch.setattr(time, "time", lambda: now)
    resumed = progress.Reporter(config, tmp_path, small_state(restored))
    log(resumed, range(restored + 1, 9), 2.0)
    resumed.close()
    assert logged(tmp_path) == [(step, 1.0 if step <= restored else 2.0) for step in range(9)]


def test_steps_after_a_rollback_are_shown_once(tmp_path, reporter):
    log(reporter, range(6), 1.0)
    reporter.roll_back(small_state(3))
    log(reporter, range(4, 8), 2.0)
    reporter.close()
    assert logged(tmp_path) == [(step, 1.0 if step <= 3 else 2.0) for step in range(8)]


@pytest.mark.parametrize("later", [3600, 0, -3600])
def test_resumed_steps_are_shown_once_whatever_the_clock_says(tmp_path, monkeypatch, later):
    for step, now in ((0, 1.7e9), (2, 1.7e9 + later), (4, 1.7e9 + later)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        with progress.event_writer(tmp_path, step) as writer:
            for taken in range(step + 1, step + 5):
                writer.add_scalar("loss", float(step), taken)
    events = event_accumulator.EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    expected = {1: 0, 2: 0, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 8: 4}
    assert [(event.step, event.value) for event in events] == list(expected.items())
