"""Faults by data whose loss is NaN: one step, several in a row, and all from some step on."""

import json
import signal
from typing import Any

import numpy as np

from experiments.faults import messages
from experiments.faults.drill import BATCH, MAX_SKIPS, Drill, expect, expect_readable, saved_steps
from experiments.faults.processes import Failed, Setup

_TRIES = 20  # starts, until a run is killed before its end


def _events_with_a_kill(drill: Drill, setup: Setup) -> list[dict[str, Any]]:
    """Returns the events of a poisoned run, once a killed one has ended in the same bits."""
    workdir = drill.uninterrupted(setup)
    for _ in range(_TRIES):
        killed = drill.folder("poisoned")
        started = drill.start(killed, setup)
        if drill.reach(started, killed) and started.kill() == {-signal.SIGKILL}:
            break
    else:
        raise Failed(f"{_TRIES} runs ended before they were killed")
    drill.finish(killed, setup)
    drill.expect_same_bits(killed, setup)
    lines = (workdir / "incidents" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def poison_one_step(drill: Drill) -> str:
    """Poisons one example: its step is skipped, and its batch is kept and can be replayed.

    Raises:
        Failed: when something else happens.
    """
    step = 2 * drill.size.every + drill.size.every // 2
    position = BATCH * step - 1
    setup = Setup(poison=f"{position}")
    events = _events_with_a_kill(drill, setup)
    found = [(e["event"], e["step"]) for e in events]
    expect(found == [(messages.SKIPPED, step)], f"events {found}")
    workdir = drill.uninterrupted(setup)
    tail = drill.final_state(workdir).tail
    expect(tail is not None and int(tail.skipped) == 1, "another number of steps was skipped")
    with np.load(workdir / "incidents" / events[0]["batch"]) as kept:
        expect(position in kept["index"], f"the kept batch has examples {kept['index']}")
    return f"step {step} skipped, its batch kept; same bits with a kill"


def poison_in_a_row(drill: Drill) -> str:
    """Poisons as many steps in a row as are allowed: the last checkpoint is restored.

    Training then continues after the bad data.

    Raises:
        Failed: when something else happens.
    """
    every, bad = drill.size.every, MAX_SKIPS
    start = 2 * every + every // 2 - 1
    setup = Setup(poison=f"{BATCH * start}:{BATCH * (start + bad)}")
    events = _events_with_a_kill(drill, setup)
    found = [(e["event"], e["step"]) for e in events]
    expected = [(messages.SKIPPED, start + i + 1) for i in range(bad)]
    expected.append((messages.RESTORED, start + bad))
    expect(found == expected, f"events {found}")
    back = start // every * every
    run = drill.final_state(drill.uninterrupted(setup))
    examples = BATCH * (drill.size.num_steps + start + bad - back)
    expect(events[-1]["to"] == back, f"back to step {events[-1]['to']}")
    expect(int(run.examples) == examples, f"{int(run.examples)} examples read, not {examples}")
    return f"restored from step {start + bad} to {back}, data skipped; same bits with a kill"


def poison_all(drill: Drill) -> str:
    """Poisons all data from some step on: the run is given up, and its checkpoints stay.

    Raises:
        Failed: when something else happens.
    """
    workdir = drill.folder("given_up")
    first = BATCH * (2 * drill.size.every + drill.size.every // 2)
    codes, output = drill.start(workdir, Setup(poison=f"{first}:")).finish()
    expect(codes == {1}, f"exit codes {codes}: {output[-300:]}")
    expect(messages.GIVEN_UP in output, output[-300:])
    expect("Traceback" not in output, "a traceback")
    expect_readable(workdir)
    return f"given up, exit code 1; checkpoints of steps {saved_steps(workdir)} can be read"
