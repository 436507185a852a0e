"""Faults by signals: SIGKILL at any moment, and signals that ask a run to stop."""

import functools
import pathlib
import signal
import time
from collections.abc import Callable

from experiments.faults import messages
from experiments.faults.drill import ALONE, Drill, expect, saved_steps
from experiments.faults.processes import Failed, Setup

_TRIES = 20  # starts, until a random moment has been met


def kill_at_random_moments(drill: Drill, setup: Setup = ALONE) -> str:
    """Kills a run at random moments; where the run ends before there were enough, another begins.

    Returns:
        What was observed, for the table.

    Raises:
        Failed: when a run ends in other bits, or a process hangs.
    """
    drill.uninterrupted(setup)
    workdir = drill.folder("timed")
    start = time.monotonic()
    drill.finish(workdir, setup)  # a second time, since all is compiled now
    seconds = time.monotonic() - start
    drill.expect_same_bits(workdir, setup)
    workdir = drill.folder("killed")
    killed: list[str] = []
    while len(killed) < drill.kills:
        started = drill.start(workdir, setup)
        # In the first third of its time a process only imports modules.
        if started.lasts(drill.random.uniform(seconds / 3, seconds)):
            # One of several processes is killed, and the others must not hang.
            started.send(signal.SIGKILL, drill.random.randrange(setup.processes))
            codes, _ = started.finish()
            expect(0 not in codes or setup.processes > 1, f"exit codes {codes}")
            killed.append(str(max(saved_steps(workdir), default="none")))
            continue
        codes, output = started.finish()
        expect(codes == {0}, f"exit codes {codes}: {output[-300:]}")
        drill.expect_same_bits(workdir, setup)
        workdir = drill.folder("killed")
    drill.finish(workdir, setup)
    drill.expect_same_bits(workdir, setup)
    plural = "s" if len(killed) > 1 else ""
    return f"same bits after {len(killed)} kill{plural}; last saved then: {', '.join(killed)}"


def kill_during_save(drill: Drill) -> str:
    """Kills a run while a checkpoint is being written, and resumes beside the unfinished one.

    Raises:
        Failed: when the run ends in other bits.
    """
    drill.uninterrupted()
    for _ in range(_TRIES):
        workdir = drill.folder("killed_during_save")
        after = drill.random.randrange(0, drill.size.num_steps, drill.size.every)
        started = drill.start(workdir)
        if started.wait_until(functools.partial(_is_saving, workdir, after)):
            started.send(signal.SIGKILL)
            started.finish()
            if unfinished := _unfinished(workdir, after):
                drill.finish(workdir)
                drill.expect_same_bits(workdir)
                return f"same bits after a kill in the save of step {unfinished[0]}"
        started.kill()
    raise Failed(f"no save was met in {_TRIES} runs")


def _is_saving(workdir: pathlib.Path, after: int) -> bool:
    return bool(_unfinished(workdir, after))


def _unfinished(workdir: pathlib.Path, after: int) -> list[int]:
    """Returns the steps, from `after` on, of checkpoints that are still being written."""
    found = (workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*")
    steps = (int(path.name.split(".")[0]) for path in found)
    return [step for step in steps if step >= after]


def stop(number: signal.Signals) -> Callable[[Drill], str]:
    """Returns the fault of a signal that asks a run to stop."""

    def signalled(drill: Drill) -> str:
        for _ in range(_TRIES):
            workdir = drill.folder("stopped")
            started = drill.start(workdir)
            if not drill.reach(started, workdir):
                continue
            start = time.monotonic()
            started.send(number)
            codes, output = started.finish()
            taken = time.monotonic() - start
            if codes == {0}:  # the signal came after the last step
                continue
            expect(codes == {128 + number}, f"exit codes {codes}: {output[-300:]}")
            step = max(saved_steps(workdir))
            message = messages.stopped(number.name, step)
            expect(message in output, f"no message {message!r}: {output[-300:]}")
            drill.finish(workdir)
            drill.expect_same_bits(workdir)
            return f"saved at step {step}, exit code {128 + number} after {taken:.1f} s; same bits"
        raise Failed(f"{_TRIES} runs ended before the signal")

    return signalled
