"""The commands: importing one, which is all that --help needs, loads neither JAX nor TensorFlow."""

import subprocess
import sys

from command_line import ROOT, finish_all

CODE = """
import sys
import experiments.%s
print(*{"jax", "tensorflow", "matplotlib", "orbax"} & set(sys.modules))
"""


def test_the_commands_load_nothing_heavy_before_their_flags_are_parsed():
    commands = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))
    assert {"table1", "figures", "report", "compare", "benchmark", "fault_drill"} <= set(commands)
    started = {
        name: subprocess.Popen(
            [sys.executable, "-c", CODE % name],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in commands
    }
    for name, (code, out, err) in zip(started, finish_all(started.values()), strict=True):
        assert code == 0, err
        assert not out.strip(), f"{name} loads {out}"
