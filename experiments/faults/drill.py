"""The fault drill's runs: how they are started, and how their final bits are compared."""

import functools
import pathlib
import random
import socket
import sys
from typing import Any, NamedTuple
from unittest import mock

import jax

from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from experiments.faults.processes import Failed, Processes, Setup
from flowvid.data import tfds_records
from flowvid.training import trainer
from flowvid.training.checkpoints import reading
from flowvid.training.checkpoints.run_state import RunState
from flowvid.training.checkpoints.saving import Checkpoints
from flowvid.video import joint

BATCH, MAX_SKIPS = 4, 3  # of the runs
ALONE = Setup()


# The kinds of models that can be drilled.
MODELS: dict[str, dict[str, Any]] = {
    "paper": {"head_steps": 1, "tail_steps": 1, "width": 8, "state_size": 4},
    "mixture": {
        "flow": "mixture",
        "context": "unet",
        "components": 3,
        "stage_width": 8,
        "head_stage_width": 8,
        "unet_width": 8,
        "features": 4,
        "layer_width": 8,
    },
}


class Size(NamedTuple):
    """How long the runs are, and of which kind and how large their models."""

    num_steps: int = 100
    every: int = 10  # steps between checkpoints; at least 6
    levels: int = 2
    image_size: int = 16
    num_frames: int = 5  # at least 4
    models: str = "paper"

    def flags(self) -> dict[str, Any]:
        """Returns the flags of `flowvid.train`: a tiny model on CPU."""
        return {
            "preset": "paper_small",
            "variant": "state_label",
            "levels": self.levels,
            "image_size": self.image_size,
            "num_frames": self.num_frames,
            "tail_frames": 2,
            "batch_size": BATCH,
            "num_steps": self.num_steps,
            "learning_rate": 1e-4,
            "ema_decay": 0.99,
            "eval_every": 2 * self.every,
            "eval_videos": 8,
            "checkpoint_every": self.every,
            "log_every": 5,
            "max_skips": MAX_SKIPS,
            "max_restores": 2,
        } | MODELS[self.models]


class Drill:
    """The folder of the runs, and what the faults need to start and compare them."""

    def __init__(self, root: pathlib.Path, kills: int, seed: int, size: Size) -> None:
        self.root, self.kills, self.size = root, kills, size
        self.random = random.Random(seed)
        self._uninterrupted: dict[Setup, pathlib.Path] = {}
        self._started: list[Processes] = []

    @functools.cached_property
    def data_dir(self) -> pathlib.Path:
        """The folder of a small dataset, which is prepared when it is first needed."""
        folder, builder = self.root / "data", moving_shapes.Builder
        few = mock.patch.object(builder, "NUM_CLIPS", {"train": 64, "validation": 8})
        with few, tfds_records.quiet():
            builder(data_dir=folder, config="32x32_30f").download_and_prepare()
        return folder

    def start(self, workdir: pathlib.Path, setup: Setup = ALONE, **changes: Any) -> Processes:
        """Starts or resumes training in `workdir`, with changed flags."""
        fields = self.size.flags() | {"data_dir": self.data_dir, "workdir": workdir} | changes
        module = "experiments.faults.poisoned_train" if setup.poison else "flowvid.train"
        command = [sys.executable, "-m", module]
        command += [f"--{name}={value}" for name, value in fields.items()]
        command += [f"--poison={setup.poison}"] if setup.poison else []
        commands = [command]
        if setup.processes > 1:
            with socket.socket() as free:
                free.bind(("localhost", 0))
                port = free.getsockname()[1]
            command += ["--distributed", f"--coordinator=localhost:{port}"]
            command += [f"--num_processes={setup.processes}"]
            commands = [[*command, f"--process_id={i}"] for i in range(setup.processes)]
        log = self.root / f"start{len(self._started):03}"
        started = Processes(commands, setup.devices, log)
        self._started.append(started)
        return started

    def close(self) -> None:
        """Kills the processes that still run."""
        for started in self._started:
            started.kill()

    def finish(self, workdir: pathlib.Path, setup: Setup = ALONE) -> str:
        """Trains to the end, and returns what the processes printed.

        Raises:
            Failed: unless they end with exit code 0.
        """
        codes, output = self.start(workdir, setup).finish()
        expect(codes == {0}, f"exit codes {codes}: {output[-300:]}")
        return output

    def uninterrupted(self, setup: Setup = ALONE) -> pathlib.Path:
        """Returns the folder of a run that was not interrupted; it is trained once."""
        if setup not in self._uninterrupted:
            self._uninterrupted[setup] = self.folder("uninterrupted")
            self.finish(self._uninterrupted[setup], setup)
        return self._uninterrupted[setup]

    def folder(self, name: str) -> pathlib.Path:
        """Returns the path of a folder that does not exist yet."""
        numbers = (n for n in range(10_000) if not (self.root / f"{name}{n}").exists())
        return self.root / f"{name}{next(numbers)}"

    def reach(self, started: Processes, workdir: pathlib.Path) -> bool:
        """Waits for a random moment after a random checkpoint.

        Returns:
            False if the run ended before.
        """
        step = self.random.randrange(0, self.size.num_steps, self.size.every)
        reached = started.wait_until(lambda: max(saved_steps(workdir), default=-1) >= step)
        return reached and started.lasts(self.random.uniform(0, 0.3))

    def expect_same_bits(self, workdir: pathlib.Path, setup: Setup = ALONE) -> None:
        """Checks that a run has ended in the bits of the uninterrupted one.

        Raises:
            Failed: naming arrays that differ.
        """
        ours, theirs = (self.final_state(run) for run in (workdir, self.uninterrupted(setup)))
        different = [
            jax.tree_util.keystr(path)
            for (path, a), b in zip(
                jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True
            )
            if a.dtype != b.dtype or a.tobytes() != b.tobytes()
        ]
        shown = ", ".join(different[:3])
        expect(not different, f"{len(different)} arrays differ ({shown}) in {workdir}")

    def final_state(self, workdir: pathlib.Path) -> RunState:
        """Returns the state in which a run has ended.

        Raises:
            Failed: when it has not ended.
        """
        settings, names = reading.read_config(workdir)
        with Checkpoints(workdir, settings, names) as kept:
            run = kept.restore(_template(settings))
        ended = run is not None and int(run.step) == self.size.num_steps
        expect(ended, f"{workdir} has not ended")
        assert run is not None
        return run


_template = functools.cache(trainer.state_template)


def expect(condition: bool, observed: str) -> None:
    """Checks a condition.

    Raises:
        Failed: with what was observed, if it is false.
    """
    if not condition:
        raise Failed(observed)


def expect_readable(workdir: pathlib.Path) -> None:
    """Checks that a run has checkpoints and that all of them can be read.

    Raises:
        Failed: when there are none.
    """
    settings, _ = reading.read_config(workdir)
    steps = saved_steps(workdir)
    expect(bool(steps), "no checkpoint is left")
    template = joint.params_template(settings)
    for step in steps:
        reading.restore_params(workdir, template, checkpoint=str(step))


def saved_steps(workdir: pathlib.Path) -> list[int]:
    """Returns the steps of the checkpoints that exist, in order."""
    folders = (workdir / "checkpoints").glob("*")
    return sorted(int(folder.name) for folder in folders if folder.name.isdecimal())
