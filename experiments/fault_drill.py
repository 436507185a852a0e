"""Breaks training runs in every way that they must survive: `python -m experiments.fault_drill`.

Real `python -m flowvid.train` processes, of a tiny model on CPU, are killed, signalled, fed NaN,
their checkpoints damaged and their disk filled; then the same command is started again. What such
a run ends in (parameters, their moving average, optimiser, counts, data position) is compared bit
by bit with a run that was left alone. Prints a table of fault, expected and observed, and exits
with code 1 if a row fails; the runs are then kept to look at.
"""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from flowvid import cli
from flowvid.data import tfds_records
from flowvid.errors import ConfigError
from flowvid.training import trainer
from flowvid.training.checkpoints import reading
from flowvid.training.checkpoints.run_state import RunState
from flowvid.training.checkpoints.saving import Checkpoints
from flowvid.video import joint

_KILLS = flags.DEFINE_integer("kills", 10, "SIGKILLs of each run that is killed.", lower_bound=1)
_ONLY = flags.DEFINE_list("only", None, "Faults to try, by the names in the table. [all]")
_SEED = flags.DEFINE_integer("seed", None, "Of the random moments. [another each time]")
_OUT = flags.DEFINE_string("out", None, "JSON file to write. [none]")

_ROOT = pathlib.Path(__file__).parents[1]
_PATIENCE = 600  # seconds that a process may take: what is slow is not yet stuck
_BATCH, _STEPS, _EVERY, _MAX_SKIPS = (
    4,
    100,
    10,
    3,
)  # of the runs; a checkpoint is due every _EVERY steps
_FLAGS = {
    "preset": "small",
    "variant": "state_label",
    "levels": 2,
    "head_steps": 1,
    "tail_steps": 1,
    "width": 8,
    "state_size": 4,
    "image_size": 16,
    "num_frames": 5,
    "tail_frames": 2,
    "batch_size": _BATCH,
    "num_steps": _STEPS,
    "learning_rate": 1e-4,
    "ema_decay": 0.99,
    "eval_every": 2 * _EVERY,
    "checkpoint_every": _EVERY,
    "log_every": 5,
    "max_skips": _MAX_SKIPS,
    "max_restores": 2,
}


class Failed(Exception):
    """What was observed is not what was expected."""


class Skipped(Exception):
    """Why a fault cannot be tried here."""


class How(NamedTuple):
    """How a run is started."""

    devices: int = 1  # of each process
    processes: int = 1
    poison: str = ""  # see `experiments.poisoned_train`


_ALONE = How()


class Life:
    """The processes of a run, from a start to their end; what they print goes to files."""

    def __init__(self, commands: list[list[str]], devices: int, log: pathlib.Path) -> None:
        force = f"--xla_force_host_platform_device_count={devices}"
        env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": force}
        self.logs = [log.with_suffix(f".{i}.log") for i in range(len(commands))]
        self.processes = []
        for command, path in zip(commands, self.logs, strict=True):
            with path.open("w") as file:
                process = subprocess.Popen(
                    command, cwd=_ROOT, env=env, stdout=file, stderr=subprocess.STDOUT
                )
            self.processes.append(process)

    def running(self) -> bool:
        """Whether none of them has ended."""
        return all(process.poll() is None for process in self.processes)

    def lasts(self, seconds: float) -> bool:
        """Whether none of them ends within so many seconds."""
        end = time.monotonic() + seconds
        while self.running() and time.monotonic() < end:
            time.sleep(0.01)
        return self.running()

    def send(self, number: int, index: int = 0) -> None:
        """Sends a signal to one of them."""
        self.processes[index].send_signal(number)

    def kill(self) -> None:
        """Ends all of them, and waits until they are gone."""
        for process in self.processes:
            process.kill()
            process.wait()

    def ended(self) -> tuple[set[int], str]:
        """Waits for all; their exit codes, and what they have printed."""
        end = time.monotonic() + _PATIENCE
        try:
            for process in self.processes:
                process.wait(max(end - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"stuck after {_PATIENCE} s") from None
        return {process.returncode for process in self.processes}, self.said()

    def said(self) -> str:
        """What they have printed so far, in words set apart by single spaces."""
        return " ".join(" ".join(path.read_text().split()) for path in self.logs)


class Drill:
    """The folder of the runs, and what the faults need to start and compare them."""

    def __init__(self, root: pathlib.Path, kills: int, seed: int) -> None:
        self.root, self.kills, self.random = root, kills, random.Random(seed)
        self.data_dir = root / "data"
        self._unbroken: dict[How, pathlib.Path] = {}
        self._lives: list[Life] = []
        builder = moving_shapes.Builder
        few = mock.patch.object(builder, "NUM_CLIPS", {"train": 64, "validation": 8})
        with few, tfds_records.quiet():
            builder(data_dir=self.data_dir, config="32x32_30f").download_and_prepare()

    def start(self, workdir: pathlib.Path, how: How = _ALONE, **changes: Any) -> Life:
        """Starts training in `workdir`, anew or again."""
        fields = _FLAGS | {"data_dir": self.data_dir, "workdir": workdir} | changes
        module = "experiments.poisoned_train" if how.poison else "flowvid.train"
        command = [sys.executable, "-m", module]
        command += [f"--{name}={value}" for name, value in fields.items()]
        command += [f"--poison={how.poison}"] if how.poison else []
        commands = [command]
        if how.processes > 1:
            with socket.socket() as free:
                free.bind(("localhost", 0))
                port = free.getsockname()[1]
            command += ["--distributed", f"--coordinator=localhost:{port}"]
            command += [f"--num_processes={how.processes}"]
            commands = [[*command, f"--process_id={i}"] for i in range(how.processes)]
        life = Life(commands, how.devices, self.root / f"life{len(self._lives):03}")
        self._lives.append(life)
        return life

    def close(self) -> None:
        """Ends what still runs."""
        for life in self._lives:
            life.kill()

    def finish(self, workdir: pathlib.Path, how: How = _ALONE) -> str:
        """Trains to the end; what the processes have said."""
        codes, said = self.start(workdir, how).ended()
        expect(codes == {0}, f"exit codes {codes}: {said[-300:]}")
        return said

    def unbroken(self, how: How = _ALONE) -> pathlib.Path:
        """The folder of a run that was left alone; trained once."""
        if how not in self._unbroken:
            self._unbroken[how] = self.folder("unbroken")
            self.finish(self._unbroken[how], how)
        return self._unbroken[how]

    def folder(self, name: str) -> pathlib.Path:
        """The name of a folder that is not there yet."""
        numbers = (n for n in range(10_000) if not (self.root / f"{name}{n}").exists())
        return self.root / f"{name}{next(numbers)}"

    def reach(self, life: Life, workdir: pathlib.Path) -> bool:
        """Waits for a random moment after a random checkpoint; False where the run ended before."""
        step = self.random.randrange(0, _STEPS, _EVERY)
        met = wait_until(lambda: max(saved_steps(workdir), default=-1) >= step, life)
        return met and life.lasts(self.random.uniform(0, 0.3))

    def expect_the_same(self, workdir: pathlib.Path, how: How = _ALONE) -> None:
        """Fails unless a run has ended in the bits of the unbroken one."""
        ours, theirs = final_state(workdir), final_state(self.unbroken(how))
        different = [
            jax.tree_util.keystr(path)
            for (path, a), b in zip(
                jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True
            )
            if a.dtype != b.dtype or a.tobytes() != b.tobytes()
        ]
        shown = ", ".join(different[:3])
        expect(not different, f"{len(different)} arrays differ ({shown}) in {workdir}")


def expect(true: bool, observed: str) -> None:
    """Fails with what was observed unless `true`."""
    if not true:
        raise Failed(observed)


def final_state(workdir: pathlib.Path) -> RunState:
    """The state that a run has ended in."""
    settings, names = reading.read_config(workdir)
    with Checkpoints(workdir, settings, names) as kept:
        run = kept.restore(trainer.state_template(settings))
    expect(run is not None and int(run.step) == _STEPS, f"{workdir} has not ended")
    assert run is not None
    return run


def saved_steps(workdir: pathlib.Path) -> list[int]:
    """The steps of the checkpoints that are there, none before the first."""
    folders = (workdir / "checkpoints").glob("*")
    return sorted(int(folder.name) for folder in folders if folder.name.isdecimal())


def wait_until(true: Callable[[], bool], life: Life) -> bool:
    """Whether something has become true before a process has ended."""
    while life.running():
        if true():
            return True
        time.sleep(0.001)
    return False


# The faults: each returns what was observed, or raises `Failed` or `Skipped`.


def kills(drill: Drill, how: How = _ALONE) -> str:
    """Killed at random moments until there were enough; where a run has ended, another begins."""
    drill.unbroken(how)
    workdir = drill.folder("left_alone")
    start = time.monotonic()
    drill.finish(workdir, how)  # again, since all is compiled now
    seconds = time.monotonic() - start
    drill.expect_the_same(workdir, how)
    workdir = drill.folder("killed")
    killed: list[str] = []
    while len(killed) < drill.kills:
        life = drill.start(workdir, how)
        # Before a third of the time a process has not got beyond its imports.
        if life.lasts(drill.random.uniform(seconds / 3, seconds)):
            # Of several processes one is killed, and the others must not hang.
            life.send(signal.SIGKILL, drill.random.randrange(how.processes))
            codes, _ = life.ended()
            expect(0 not in codes or how.processes > 1, f"exit codes {codes}")
            killed.append(str(max(saved_steps(workdir), default="none")))
            continue
        codes, said = life.ended()
        expect(codes == {0}, f"exit codes {codes}: {said[-300:]}")
        drill.expect_the_same(workdir, how)
        workdir = drill.folder("killed")
    drill.finish(workdir, how)
    drill.expect_the_same(workdir, how)
    plural = "s" if len(killed) > 1 else ""
    return f"same bits after {len(killed)} kill{plural}; last saved then: {', '.join(killed)}"


def kill_in_a_save(drill: Drill) -> str:
    """Killed while a checkpoint is being written, then on with half of one lying there."""
    drill.unbroken()
    for _ in range(20):
        workdir = drill.folder("killed_in_a_save")
        folder = workdir / "checkpoints"
        after = drill.random.randrange(0, _STEPS, _EVERY)

        def halves(folder: pathlib.Path = folder, after: int = after) -> list[str]:
            found = [path.name for path in folder.glob("*.orbax-checkpoint-tmp*")]
            return [name for name in found if int(name.split(".")[0]) >= after]

        life = drill.start(workdir)
        if wait_until(lambda halves=halves: bool(halves()), life):  # type: ignore[misc]
            life.send(signal.SIGKILL)
            life.ended()
            if half := halves():
                step = int(half[0].split(".")[0])
                drill.finish(workdir)
                drill.expect_the_same(workdir)
                return f"same bits after a kill in the save of step {step}"
        life.kill()
    raise Failed("no save was met in 20 runs")


def stop(number: signal.Signals) -> Callable[[Drill], str]:
    """The fault of a signal that asks to stop."""

    def signalled(drill: Drill) -> str:
        for _ in range(20):
            workdir = drill.folder("stopped")
            life = drill.start(workdir)
            if not drill.reach(life, workdir):
                continue
            start = time.monotonic()
            life.send(number)
            codes, said = life.ended()
            taken = time.monotonic() - start
            if codes == {0}:  # it came when all was done
                continue
            expect(codes == {128 + number}, f"exit codes {codes}: {said[-300:]}")
            step = max(saved_steps(workdir))
            told = f"{number.name}: stopped and saved at step {step} of"
            expect(told in said, f"not told {told!r}: {said[-300:]}")
            drill.finish(workdir)
            drill.expect_the_same(workdir)
            return f"saved at step {step}, exit code {128 + number} after {taken:.1f} s; same bits"
        raise Failed("all runs had ended before the signal")

    return signalled


def _poisoned_and_killed(drill: Drill, poison: str) -> list[dict[str, Any]]:
    """The events of a poisoned run, after another with a kill has ended in the same bits."""
    how = How(poison=poison)
    unbroken = drill.unbroken(how)
    workdir = drill.folder("poisoned")
    life = drill.start(workdir, how)
    drill.reach(life, workdir)
    life.kill()
    drill.finish(workdir, how)
    drill.expect_the_same(workdir, how)
    lines = (unbroken / "incidents" / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def poison_one(drill: Drill) -> str:
    """One example is NaN: its step changes nothing, its batch is kept and can be replayed."""
    step = 25
    position = _BATCH * step - 1
    events = _poisoned_and_killed(drill, f"{position}")
    seen = [(e["event"], e["step"]) for e in events]
    expect(seen == [("non-finite", step)], f"events {seen}")
    workdir = drill.unbroken(How(poison=f"{position}"))
    tail = final_state(workdir).tail
    expect(tail is not None and int(tail.skipped) == 1, "another number of steps was skipped")
    with np.load(workdir / "incidents" / events[0]["batch"]) as kept:
        expect(position in kept["index"], f"the kept batch has examples {kept['index']}")
    return f"step {step} skipped, its batch kept; same bits with a kill"


def poison_in_a_row(drill: Drill) -> str:
    """As many bad steps in a row as may be: back to the checkpoint, and on past their data."""
    start, bad = 24, _MAX_SKIPS
    poison = f"{_BATCH * start}:{_BATCH * (start + bad)}"
    events = _poisoned_and_killed(drill, poison)
    seen = [(e["event"], e["step"]) for e in events]
    expected = [("non-finite", start + i + 1) for i in range(bad)] + [("restored", start + bad)]
    expect(seen == expected, f"events {seen}")
    back = start // _EVERY * _EVERY
    run = final_state(drill.unbroken(How(poison=poison)))
    examples = _BATCH * (_STEPS + start + bad - back)
    expect(events[-1]["to"] == back, f"back to step {events[-1]['to']}")
    expect(int(run.examples) == examples, f"{int(run.examples)} examples read, not {examples}")
    return f"back from step {start + bad} to {back} and past the data; same bits with a kill"


def poison_all(drill: Drill) -> str:
    """All data is bad from somewhere on: the run is given up, and its checkpoints stay."""
    workdir = drill.folder("given_up")
    codes, said = drill.start(workdir, How(poison=f"{_BATCH * 25}:")).ended()
    expect(codes == {1}, f"exit codes {codes}: {said[-300:]}")
    expect("error: training stops at step" in said, said[-300:])
    expect("Traceback" not in said, "a traceback")
    _expect_readable(workdir)
    return f"given up, exit code 1; checkpoints of steps {saved_steps(workdir)} can be read"


def _expect_readable(workdir: pathlib.Path) -> None:
    settings, _ = reading.read_config(workdir)
    steps = saved_steps(workdir)
    expect(bool(steps), "no checkpoint is left")
    template = joint.params_template(settings)
    for step in steps:
        reading.restore_params(workdir, template, checkpoint=str(step))


def _truncate(path: pathlib.Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: pathlib.Path) -> None:
    os.truncate(path, 0)


def damage(harm: Callable[[pathlib.Path], None]) -> Callable[[Drill], str]:
    """The fault of a newest checkpoint whose largest file was harmed."""

    def damaged(drill: Drill) -> str:
        workdir = drill.folder("damaged")
        shutil.copytree(drill.unbroken(), workdir)
        *_, before, newest = saved_steps(workdir)
        files = [p for p in (workdir / "checkpoints" / str(newest)).rglob("*") if p.is_file()]
        harm(max(files, key=lambda path: path.stat().st_size))
        said = drill.finish(workdir)
        told = f"The checkpoint of step {newest} in"
        expect(told in said and "cannot be read" in said, f"not told: {said[-300:]}")
        expect(f"Resuming from step {before} of" in said, f"not from step {before}: {said[-300:]}")
        expect((workdir / "damaged" / str(newest)).exists(), "not set aside")
        drill.expect_the_same(workdir)
        return f"step {newest} told and set aside, on from step {before}; same bits"

    return damaged


@contextlib.contextmanager
def _small_disk(folder: pathlib.Path, megabytes: int) -> Iterator[None]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        result = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Skipped("there is no mount command here") from error
    if result.returncode:
        raise Skipped(f"mounting is not allowed here: {' '.join(result.stderr.split())}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disk(drill: Drill) -> str:
    """A disk that has room for some checkpoints, but not for all; then room is made."""
    unbroken = drill.unbroken()
    one = unbroken / "checkpoints" / str(_STEPS)
    size = sum(path.stat().st_blocks * 512 for path in one.rglob("*"))
    disk = drill.folder("disk")
    with _small_disk(disk, 32):
        workdir, filler = disk / "run", disk / "filler"
        filler.write_bytes(b"\0" * (2**25 - int(2.7 * size)))
        codes, said = drill.start(workdir).ended()
        expect(codes == {1}, f"exit codes {codes}: {said[-300:]}")
        expect("error: no space is left on the disk of" in said, said[-300:])
        _expect_readable(workdir)
        finished = saved_steps(workdir)
        filler.unlink()
        drill.finish(workdir)
        drill.expect_the_same(workdir)
    return f"told, exit code 1; {finished} can be read; with room made, same bits"


def second_process(drill: Drill) -> str:
    """The same command twice at a time; the first is held still meanwhile."""
    drill.unbroken()
    workdir = drill.folder("contended")
    first = drill.start(workdir)
    expect(wait_until(lambda: 0 in saved_steps(workdir), first), first.said()[-300:])
    first.send(signal.SIGSTOP)
    try:
        codes, said = drill.start(workdir).ended()
    finally:
        first.send(signal.SIGCONT)
    expect(codes == {1}, f"exit codes {codes}: {said[-300:]}")
    expect(f"error: another process is training in {workdir}" in said, said[-300:])
    codes, said = first.ended()
    expect(codes == {0}, f"the first one's exit code {codes}: {said[-300:]}")
    drill.expect_the_same(workdir)
    return "the second refused with exit code 1, the first ended in the same bits"


def other_configuration(drill: Drill) -> str:
    """A resume with other fields, with config.json there and lost."""
    unbroken = drill.unbroken()
    workdir = drill.folder("configured")
    shutil.copytree(unbroken, workdir)
    for lost in (False, True):
        if lost:
            (workdir / "config.json").unlink()
        codes, said = drill.start(workdir, width=16, seed=5).ended()
        expect(codes == {1}, f"exit codes {codes}: {said[-300:]}")
        expect("--width=16 (the run has 8)" in said, f"width is not named: {said[-300:]}")
        expect("--seed=5 (the run has 0)" in said, f"seed is not named: {said[-300:]}")
    drill.expect_the_same(workdir)
    return "both fields named, exit code 1; without config.json, too"


def fewer_devices(drill: Drill) -> str:
    """Begun on two devices, ended on one; sums are taken in another order, so not bit by bit."""
    workdir = drill.folder("moved")
    life = drill.start(workdir, How(devices=2))
    middle = wait_until(lambda: bool(saved_steps(workdir)[1:]), life)
    expect(middle, life.said()[-300:])
    life.kill()
    from_step = max(saved_steps(workdir))
    drill.finish(workdir)
    ours, theirs = final_state(workdir), final_state(drill.unbroken())
    worst = 0.0
    for name in ("head", "tail"):
        a, b = (jax.tree.leaves(getattr(run, name).params) for run in (ours, theirs))
        difference = sum(float(np.sum((x - y) ** 2)) for x, y in zip(a, b, strict=True))
        worst = max(worst, (difference / sum(float(np.sum(y**2)) for y in b)) ** 0.5)
    expect(worst < 1e-4, f"parameters differ by {worst:.1e} (relative L2)")
    return f"on from step {from_step}; parameters differ by {worst:.1e} (relative L2)"


class Fault(NamedTuple):
    """A row of the table."""

    name: str
    fault: str
    expected: str
    try_it: Callable[[Drill], str]


_SAME = "the bits of the unbroken run"
FAULTS = (
    Fault("kill", "SIGKILL at random moments, 1 device", _SAME, kills),
    Fault(
        "kill2",
        "SIGKILL at random moments, 2 devices",
        _SAME,
        lambda drill: kills(drill, How(devices=2)),
    ),
    Fault("kill_save", "SIGKILL in a save", _SAME, kill_in_a_save),
    Fault(
        "kill_hosts",
        "SIGKILL of one of 2 processes with 2 devices each",
        f"the other ends, too; {_SAME}",
        lambda drill: kills(drill, How(devices=2, processes=2)),
    ),
    Fault("sigterm", "SIGTERM", f"saved, code 143; {_SAME}", stop(signal.SIGTERM)),
    Fault("sigint", "SIGINT", f"saved, code 130; {_SAME}", stop(signal.SIGINT)),
    Fault("poison", "one batch is NaN, and a kill", f"skipped, batch kept; {_SAME}", poison_one),
    Fault(
        "poison_row",
        "NaN in a row, and a kill",
        f"restored, past the data; {_SAME}",
        poison_in_a_row,
    ),
    Fault("poison_all", "NaN for good", "given up, checkpoints readable", poison_all),
    Fault(
        "truncated", "newest checkpoint truncated", f"the one before; {_SAME}", damage(_truncate)
    ),
    Fault("empty", "file of the newest emptied", f"the one before; {_SAME}", damage(_empty)),
    Fault(
        "missing",
        "file of the newest missing",
        f"the one before; {_SAME}",
        damage(pathlib.Path.unlink),
    ),
    Fault("disk", "disk full (tmpfs)", f"told, finished ones readable; {_SAME}", full_disk),
    Fault("second", "second process, same folder", f"refused; first has {_SAME}", second_process),
    Fault("config", "another configuration", "refused, fields named", other_configuration),
    Fault("devices", "2 devices, then 1", "restored; same to float accuracy", fewer_devices),
)


def chosen(names: Sequence[str] | None) -> tuple[Fault, ...]:
    """The faults of these names; all for None.

    Raises:
        ConfigError: for a name that there is not.
    """
    known = [fault.name for fault in FAULTS]
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ConfigError(f"--only={unknown[0]} is no fault: use some of {', '.join(known)}.")
    return tuple(fault for fault in FAULTS if names is None or fault.name in names)


def run(drill: Drill, faults: Sequence[Fault]) -> list[dict[str, Any]]:
    """Tries them one after another; the rows of the table."""
    rows = []
    bar = tqdm(faults, desc="fault drill", unit="fault")
    for fault in bar:
        bar.set_postfix_str(fault.name)
        start = time.monotonic()
        try:
            observed, result = fault.try_it(drill), "pass"
        except Failed as error:
            observed, result = str(error), "FAIL"
        except Skipped as error:
            observed, result = str(error), "skip"
        rows.append(
            {
                "name": fault.name,
                "fault": fault.fault,
                "expected": fault.expected,
                "observed": observed,
                "result": result,
                "seconds": round(time.monotonic() - start, 1),
            }
        )
    return rows


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """The table, its cells wrapped."""
    widths = {"name": 10, "fault": 24, "expected": 28, "observed": 42, "result": 6, "seconds": 7}

    def lines(row: dict[str, Any]) -> Iterator[str]:
        cells = [textwrap.wrap(str(row[name]), width) for name, width in widths.items()]
        for i in range(max(map(len, cells))):
            parts = (cell[i] if i < len(cell) else "" for cell in cells)
            yield "  ".join(
                f"{part:{width}}" for part, width in zip(parts, widths.values(), strict=True)
            ).rstrip()

    titles = {name: name for name in widths}
    return "\n".join(line for row in (titles, *rows) for line in lines(row))


def main() -> None:
    """Tries all faults in a temporary folder, prints, writes."""
    faults = chosen(_ONLY.value)
    seed = random.randrange(10**6) if _SEED.value is None else _SEED.value
    root = pathlib.Path(tempfile.mkdtemp(prefix="fault_drill_"))
    # Every life would compile the same steps again.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(root / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    jax.config.update("jax_platforms", "cpu")
    drill = Drill(root, _KILLS.value, seed)
    try:
        rows = run(drill, faults)
    finally:
        drill.close()
    print(format_rows(rows))
    print(f"--kills={drill.kills} --seed={seed}")
    if _OUT.value:
        report = {"kills": drill.kills, "seed": seed, "rows": rows}
        pathlib.Path(_OUT.value).write_text(json.dumps(report, indent=2) + "\n")
    if any(row["result"] == "FAIL" for row in rows):
        sys.exit(f"Not all is as expected; the runs are kept in {root}.")
    shutil.rmtree(root)


if __name__ == "__main__":
    cli.run(main)
