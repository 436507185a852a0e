"""The faults by signals, on processes that write checkpoints as training does but train nothing."""

import re
import signal
import sys

import pytest

from experiments.faults import drill as drills
from experiments.faults import processes, signals
from experiments.faults.drill import Drill, Size
from experiments.faults.processes import Failed, Processes

# Takes half a second for 4 checkpoints; each is named otherwise while it is written.
TRAIN = """
import pathlib, signal, sys, time

folder, every, steps = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
folder.mkdir(parents=True, exist_ok=True)

def stop(number, frame):
    last = max(int(p.name) for p in folder.iterdir() if p.name.isdecimal())
    print(f"SIGTERM: stopped and saved at step {last} of it", flush=True)
    sys.exit(int(sys.argv[4]))

signal.signal(signal.SIGTERM, stop)
for step in range(0, steps + 1, every):
    if not (folder / str(step)).exists():
        half = folder / f"{step}.orbax-checkpoint-tmp"
        half.mkdir(exist_ok=True)
        time.sleep(0.1)
        half.rename(folder / str(step))
"""


class WithoutTraining(Drill):
    """A drill whose runs are the program above; it notes which of them are compared."""

    def __init__(self, root, code=128 + signal.SIGTERM):
        super().__init__(root, kills=3, seed=0, size=Size(24, 6))
        self.code, self.compared = code, []

    def start(self, workdir, setup=drills.ALONE, **changes):
        """Starts the program in place of training."""
        numbers = (self.size.every, self.size.num_steps, self.code)
        command = [sys.executable, "-c", TRAIN, str(workdir / "checkpoints"), *map(str, numbers)]
        log = self.root / f"start{len(self._started)}"
        self._started.append(Processes([command] * setup.processes, 1, log))
        return self._started[-1]

    def expect_same_bits(self, workdir, setup=drills.ALONE):
        """Checks that the program has ended."""
        drills.expect(24 in drills.saved_steps(workdir), f"{workdir} has not ended")
        self.compared.append(workdir)

    def exit_codes(self):
        """Returns those of all processes, in the order of their starts."""
        return [process.poll() for started in self._started for process in started.processes]


@pytest.fixture
def drill(tmp_path):
    made = WithoutTraining(tmp_path)
    yield made
    made.close()


def test_a_run_is_killed_as_often_as_asked_and_then_ends(drill):
    observed = signals.kill_at_random_moments(drill)
    assert observed.startswith("same bits after 3 kills; last saved then: ")
    assert drill.exit_codes().count(-signal.SIGKILL) == 3
    assert drill.exit_codes()[-1] == 0
    assert drill.compared[-1].name.startswith("killed")


def test_a_run_is_killed_while_it_saves(drill):
    observed = signals.kill_during_save(drill)
    assert observed.startswith("same bits after a kill in the save of step ")
    *_, killed, ended = drill.exit_codes()
    assert (killed, ended) == (-signal.SIGKILL, 0)


def test_a_run_that_is_asked_to_stop_saves_and_is_resumed(drill):
    observed = signals.stop(signal.SIGTERM)(drill)
    assert re.fullmatch(r"saved at step \d+, exit code 143 after .* s; same bits", observed)
    *_, stopped, ended = drill.exit_codes()
    assert (stopped, ended) == (143, 0)


def test_another_exit_code_fails_the_drill(tmp_path):
    with pytest.raises(Failed, match=r"exit codes \{3\}"):
        signals.stop(signal.SIGTERM)(WithoutTraining(tmp_path, code=3))


def test_a_process_that_hangs_is_killed_and_fails_the_drill(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "_TIMEOUT", 0.2)
    hanging = Processes([[sys.executable, "-c", "import time; time.sleep(600)"]], 1, tmp_path / "x")
    with pytest.raises(Failed, match=r"stuck after 0\.2 s"):
        hanging.finish()
    assert [process.returncode for process in hanging.processes] == [-signal.SIGKILL]
