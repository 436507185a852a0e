"""Calls a measurement in a new process, so that memory, caches and flags are its own."""

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
    """Returns `function(**arguments)`, called in a new process; both travel as JSON.

    Args:
        function: "module.function", of the package `experiments.measuring` or one inside it.
        arguments: by name.
        cores: how many the process may use; all by default.
        environment: variables for the process. Huge pages are on, as in `flowvid.train`.

    Raises:
        TrainingError: when the process fails, with the end of what it printed.
    """
    code = f"import sys; from {__name__} import serve; serve(*sys.argv[1:])"
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
    """Prints what a function returns, as the process that `call` starts."""
    if int(cores):  # before JAX makes its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    import importlib

    module, name = function.rsplit(".", 1)
    result = getattr(importlib.import_module(f"{__package__}.{module}"), name)(
        **json.loads(arguments)
    )
    print("\n" + json.dumps(result))
