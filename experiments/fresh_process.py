"""Runs a measurement in a process of its own, so that its memory, cache and flags are its own."""

import json
import os
import subprocess
import sys
from typing import Any

from flowvid import cli
from flowvid.errors import TrainingError


def call(
    function: str,
    arguments: dict[str, Any],
    *,
    cores: int | None = None,
    environment: dict[str, str] | None = None,
) -> Any:
    """What `experiments.<module>.<function>(**arguments)` returns; both ways as JSON.

    Args:
        function: "module.function", in experiments.
        arguments: by name.
        cores: use only so many.
        environment: variables; besides, huge pages where `flowvid.train` would have them.

    Raises:
        TrainingError: when the process fails; with the end of what it printed.
    """
    code = "import sys; from experiments import fresh_process; fresh_process.serve(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, function, json.dumps(arguments), str(cores or 0)],
        env={**cli.HUGE_PAGES, **os.environ, **(environment or {})},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise TrainingError(f"{function}({arguments}) failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def serve(function: str, arguments: str, cores: str) -> None:
    """The other side of `call`."""
    if int(cores):  # before JAX makes its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    import importlib

    module, name = function.split(".")
    result = getattr(importlib.import_module(f"experiments.{module}"), name)(
        **json.loads(arguments)
    )
    print("\n" + json.dumps(result))
