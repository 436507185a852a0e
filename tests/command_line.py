"""Running the entry points in tests; the fixture `call` comes by `pytest_plugins`."""

import dataclasses
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags, logging

from flowvid.config import Config

ROOT = Path(__file__).parents[1]
CONFIG_FLAGS = {field.name for field in dataclasses.fields(Config)}


def start(name, *args):
    """Starts an entry point in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", f"flowvid.{name}", *map(str, args)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """A process's exit code, standard output and standard error."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


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
            runpy.run_module(f"flowvid.{name}", run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            flags.FLAGS.unparse_flags()
            own = {
                flag for flag in flags.FLAGS if flags.FLAGS.find_module_defining_flag(flag) == name
            }
            for flag in own | set(flags.FLAGS) & CONFIG_FLAGS:
                delattr(flags.FLAGS, flag)
        return code, *capsys.readouterr()

    yield run
    logging.set_verbosity(verbosity)
