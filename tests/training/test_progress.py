"""What the progress bar tells while a step is compiled."""

import re
import threading
from types import SimpleNamespace

import pytest
from helpers import small_state

from flowvid.config.schema import preset_config
from flowvid.training import progress


@pytest.fixture
def reporter(tmp_path):
    made = progress.Reporter(preset_config("small", num_frames=1), tmp_path, small_state(0))
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


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_goes_on_counting_once_it_is_compiled(reporter, fails):
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
