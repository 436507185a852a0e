"""What saving costs the training loop: `python -m experiments.saving_benchmark`.

Trains with a preset on `moving_shapes`, in blocks of a few steps that begin with a save and, in
turn, blocks that do not. The cost of a save is the median difference of such pairs; its share is
that of the time between two checkpoints of the preset. Prints a table, and writes JSON with --out.
"""

import json
import pathlib
import tempfile

from absl import flags

from flowvid import cli, fields
from flowvid.config import making, presets, schema

_PRESET = flags.DEFINE_enum("preset", "paper_small", list(presets.PRESETS), "Preset of the model.")
_VARIANT = flags.DEFINE_enum(
    "variant", "state_label", list(schema.VARIANTS), "Variant of the model."
)
_PAIRS = flags.DEFINE_integer("pairs", 15, "Blocks with a save, and as many without.", 1)
_STEPS = flags.DEFINE_integer("steps", 10, "Training steps per block.", 1)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of prepared datasets. [~/tensorflow_datasets]"
)
_OUT = fields.path_flag("out", None, "JSON file to write. [none]")


def main() -> None:
    """Measures in a temporary folder, and prints and writes the cost."""
    from experiments.measuring import saving_cost

    settings = making.preset_config(_PRESET.value, variant=_VARIANT.value, data_dir=_DATA_DIR.value)
    with tempfile.TemporaryDirectory() as folder:
        cost = saving_cost.measure(
            settings, pathlib.Path(folder), pairs=_PAIRS.value, num_steps=_STEPS.value
        )
    for name, value in cost.items():
        print(f"{name:24}{value:.3g}" if isinstance(value, float) else f"{name:24}{value}")
    if _OUT.value:
        _OUT.value.write_text(json.dumps(cost, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
