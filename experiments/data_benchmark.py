"""How fast data is prepared and read: `python -m experiments.data_benchmark`.

Makes H.264 clips like those of Moments in Time (256x256, 90 frames). Then it measures, in one run,
the bare decoder and resizer, the whole preparation of the same clips, and the loader on what was
prepared, at 64x64 and 30 frames (the loader at 32x32, too). Prints a table, and writes JSON with
--out.
"""

import json
import pathlib
import tempfile
from collections.abc import Sequence

from absl import app, flags

from flowvid import fields

_CLIPS = flags.DEFINE_integer("clips", 600, "Clips to prepare.", lower_bound=16)
_REPEATS = flags.DEFINE_integer("repeats", 3, "Runs of each measurement, whose median counts.", 1)
_OUT = fields.path_flag("out", None, "JSON file to write. [none]")


def main(argv: Sequence[str]) -> None:
    """Measures in a temporary folder, and prints and writes the rates."""
    from experiments.measuring import data_rates

    del argv
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        data_rates.make_archive(root / "archive", _CLIPS.value)
        rates = data_rates.measure(root / "archive", root / "data", _REPEATS.value)
    for name, value in rates.items():
        print(f"{name:32}{value:.3g}" if isinstance(value, float) else f"{name:32}{value}")
    if _OUT.value:
        _OUT.value.write_text(json.dumps(rates, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app.run(main)  # not `cli.run`: processes that start here are measured, and need no JAX
