"""Running the entry points in tests; the fixture `call` comes by `pytest_plugins`."""

import dataclasses
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags, logging

from flowvid.conditioning.table import CONTEXTS
from flowvid.config.schema import Config
from flowvid.flows.table import FLOWS
from flowvid.gan.config import GanConfig

ROOT = Path(__file__).parents[1]
CONFIGS = (Config, GanConfig, *FLOWS.values(), *CONTEXTS.values())
CONFIG_FLAGS = {f.name for config in CONFIGS for f in dataclasses.fields(config)}
CONFIG_FLAGS |= {"distributed", "coordinator", "num_processes", "process_id"}
CONFIG_FLAGS |= {"workdir", "checkpoint", "average"}


def start(name, *args, devices=2):
    """Starts an entry point in a process of its own, with so many virtual devices."""
    # The last of two flags of one name counts.
    force = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", f"flowvid.{name}", *map(str, args)],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": force},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_address():
    """An address for the processes of a run to meet at, with a port that nothing uses yet."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def start_together(name, *args, processes=2, devices=2):
    """Starts an entry point in several processes that are one run."""
    address = free_address()
    together = ("--distributed", f"--coordinator={address}", f"--num_processes={processes}")
    return [
        start(name, *args, *together, f"--process_id={i}", devices=devices)
        for i in range(processes)
    ]


def finish(process):
    """A process's exit code, standard output and standard error."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def finish_all(processes):
    """What `finish` returns of each process; says what all have printed if one does not end."""
    try:
        return [finish(process) for process in processes]
    except subprocess.TimeoutExpired:
        ended = [process.poll() is not None for process in processes]
        for process in processes:
            process.kill()
        printed = [process.communicate() for process in processes]
        pytest.fail(f"processes that have ended: {ended}; printed by each: {printed}")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def assert_one_line(result, message):
    """The result of a run is one error line with this message, and exit code 1."""
    code, out, err = result
    assert code == 1
    assert "Traceback" not in out + err
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, err
    assert message in errors[0]


@pytest.fixture
def call(monkeypatch, capsys):
    """A function that runs an entry point in this process, as `python -m` would."""
    verbosity = logging.get_verbosity()

    def run(name, *args):
        monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
        try:
            runpy.run_module(
                name if name.startswith("experiments.") else f"flowvid.{name}", run_name="__main__"
            )
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            flags.FLAGS.unparse_flags()
            # The flags that a function of flowvid defines are those of the tests' import hook.
            definers = {name, "jaxtyping._decorator"}
            own = {
                flag
                for flag in flags.FLAGS
                if flags.FLAGS.find_module_defining_flag(flag) in definers
            }
            for flag in own | set(flags.FLAGS) & CONFIG_FLAGS:
                delattr(flags.FLAGS, flag)
        return code, *capsys.readouterr()

    yield run
    logging.set_verbosity(verbosity)
