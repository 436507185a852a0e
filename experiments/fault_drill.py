"""Breaks training runs in every way that they must survive: `python -m experiments.fault_drill`.

Real `python -m flowvid.train` processes, of a tiny model on CPU, are killed, signalled, fed NaN,
their checkpoints damaged and their disk filled; then the same command is started again. The state
in which such a run ends (parameters, their moving average, optimiser, counts, data position) is
compared bit by bit with that of an uninterrupted run. Prints a table of fault, expected and
observed, and exits with code 1 if a row fails; the runs are then kept for inspection.
"""

import json
import os
import pathlib
import random
import shutil
import sys
import tempfile

from absl import flags

from flowvid import cli, fields

_KILLS = flags.DEFINE_integer("kills", 10, "SIGKILLs of each run that is killed.", lower_bound=1)
_MODELS = flags.DEFINE_enum(
    "models", "paper", ["paper", "mixture"], "The paper's models, or mixture flow and U-Net."
)
_ONLY = flags.DEFINE_list("only", None, "Faults to try, by their names in the table. [all]")
_SEED = flags.DEFINE_integer("seed", None, "Seed of the random moments. [another each time]")
_OUT = fields.path_flag("out", None, "JSON file to write. [none]")


def main() -> None:
    """Tries the faults in a temporary folder, and prints and writes the table."""
    import jax

    from experiments.faults import table
    from experiments.faults.drill import Drill, Size

    faults = table.chosen(_ONLY.value)
    seed = random.randrange(10**6) if _SEED.value is None else _SEED.value
    root = pathlib.Path(tempfile.mkdtemp(prefix="fault_drill_"))
    # Without a cache every process would compile the same steps again.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(root / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    jax.config.update("jax_platforms", "cpu")
    drill = Drill(root, _KILLS.value, seed, Size(models=_MODELS.value))
    try:
        rows = table.run(drill, faults)
    finally:
        drill.close()
    print(table.format_rows(rows))
    print(f"--models={_MODELS.value} --kills={drill.kills} --seed={seed}")
    if _OUT.value:
        report = {"models": _MODELS.value, "kills": drill.kills, "seed": seed, "rows": rows}
        _OUT.value.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if any(row["result"] == "FAIL" for row in rows):
        sys.exit(f"Some faults did not end as expected; the runs are kept in {root}.")
    shutil.rmtree(root)


if __name__ == "__main__":
    cli.run(main)
