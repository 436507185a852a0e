"""Faults of how a run is started: twice at a time, with other flags, on other devices."""

import shutil
import signal

import jax
import numpy as np

from experiments.faults import messages
from experiments.faults.drill import Drill, expect, saved_steps
from experiments.faults.processes import Setup

_TOLERANCE = 1e-4  # relative L2 distance of parameters whose sums were taken in another order


def second_process(drill: Drill) -> str:
    """Starts the same command twice at a time; the first process is held still meanwhile.

    Raises:
        Failed: unless the second is refused and the first ends in the same bits.
    """
    drill.uninterrupted()
    workdir = drill.folder("contended")
    first = drill.start(workdir)
    expect(first.wait_until(lambda: 0 in saved_steps(workdir)), first.output()[-300:])
    first.send(signal.SIGSTOP)
    try:
        codes, output = drill.start(workdir).finish()
    finally:
        first.send(signal.SIGCONT)
    expect(codes == {1}, f"exit codes {codes}: {output[-300:]}")
    expect(messages.second_process(workdir) in output, output[-300:])
    codes, output = first.finish()
    expect(codes == {0}, f"the first one's exit code {codes}: {output[-300:]}")
    drill.expect_same_bits(workdir)
    return "the second refused with exit code 1, the first ended in the same bits"


def other_configuration(drill: Drill) -> str:
    """Resumes with other flags, with config.json there and without it.

    Raises:
        Failed: unless both fields are named.
    """
    workdir = drill.folder("configured")
    shutil.copytree(drill.uninterrupted(), workdir)
    width = drill.size.flags()["width"]
    for lost in (False, True):
        if lost:
            (workdir / "config.json").unlink()
        codes, output = drill.start(workdir, width=2 * width, seed=5).finish()
        expect(codes == {1}, f"exit codes {codes}: {output[-300:]}")
        for field in (("width", 2 * width, width), ("seed", 5, 0)):
            message = messages.other_value(*field)
            expect(message in output, f"no message {message!r}: {output[-300:]}")
    drill.expect_same_bits(workdir)
    return "both fields named, exit code 1; without config.json, too"


def fewer_devices(drill: Drill) -> str:
    """Starts a run on two devices and resumes it on one; sums are then taken in another order.

    Raises:
        Failed: when the parameters differ by more than float accuracy.
    """
    workdir = drill.folder("moved")
    started = drill.start(workdir, Setup(devices=2))
    reached = started.wait_until(lambda: bool(saved_steps(workdir)[1:]))
    expect(reached, started.output()[-300:])
    started.kill()
    from_step = max(saved_steps(workdir))
    drill.finish(workdir)
    runs = [drill.final_state(folder) for folder in (workdir, drill.uninterrupted())]
    worst = 0.0
    for name in ("head", "tail"):
        a, b = (jax.tree.leaves(getattr(run, name).params) for run in runs)
        difference = sum(float(np.sum((x - y) ** 2)) for x, y in zip(a, b, strict=True))
        worst = max(worst, (difference / sum(float(np.sum(y**2)) for y in b)) ** 0.5)
    expect(worst < _TOLERANCE, f"parameters differ by {worst:.1e} (relative L2)")
    return f"resumed from step {from_step}; parameters differ by {worst:.1e} (relative L2)"
