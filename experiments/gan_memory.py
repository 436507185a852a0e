"""What frames cost in memory, GAN against flow: `python -m experiments.gan_memory`.

The paper's first argument for flows (section V): the GAN's generator step holds all frames at once.
Temporary memory of a loss and its gradients by XLA's own analysis, parameters and optimiser aside;
nothing is run. Prints a table in Markdown, and writes JSON and a picture.
"""

import json
import pathlib
from typing import Any

from absl import flags
from tqdm import tqdm

from experiments import machine, presentation
from experiments.fresh_process import call
from experiments.plotting import pyplot
from flowvid import cli, config

_PRESET = flags.DEFINE_enum("preset", "paper", list(config.PRESETS), "Of both models.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Videos a step.", lower_bound=1)
_FRAMES = flags.DEFINE_list("frames", ["4", "8", "16", "30"], "Frames of the videos.")
_OUT = flags.DEFINE_string("out", None, "JSON file to write. [none]")
_PICTURE = flags.DEFINE_string("picture", None, "Picture to write. [none]")

COLUMNS = ("frames", "model", "temp_mb")


def measure(preset: str, batch_size: int, frames: list[int]) -> list[dict[str, Any]]:
    """A row a model and number of frames: {"frames", "model", "temp_mb"}."""
    rows = []
    for count in tqdm(frames, desc="frames", unit="number", leave=False):
        changes = {"preset": preset, "batch_size": batch_size, "num_frames": count}
        for part, objective in (("generator", "paper"), ("discriminator", "r1")):
            arguments = {"part": part, "changes": changes | {"objective": objective}}
            figures = call("measurements.gan_memory", arguments)
            rows.append({"frames": count, "model": f"GAN's {part}, {objective}"} | figures)
        for mode in ("stored", "reversible"):
            arguments = {"name": "tail", "changes": changes | {"backprop": mode}}
            figures = call("measurements.gradient_memory", arguments)
            rows.append({"frames": count, "model": f"flow's tail, {mode}"} | figures)
    return rows


def draw(rows: list[dict[str, Any]], title: str, path: pathlib.Path) -> None:
    """A line a model over frames."""
    figure, panel = pyplot().subplots(figsize=(6, 3.8))
    for model in dict.fromkeys(row["model"] for row in rows):
        of_model = [row for row in rows if row["model"] == model]
        x, y = ([row[key] for row in of_model] for key in ("frames", "temp_mb"))
        panel.plot(x, y, "o-", markersize=4, label=model)
    panel.set(xlabel="frames of a video", ylabel="temporary memory (MB)", ylim=(0, None))
    panel.set_xticks(x)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot().close(figure)


def main() -> None:
    """Measures, prints, writes."""
    rows = measure(_PRESET.value, _BATCH_SIZE.value, [int(count) for count in _FRAMES.value])
    title = f"{_PRESET.value} preset, batch {_BATCH_SIZE.value}; {machine.describe()}"
    print(f"{title}\n\n{presentation.table(rows, COLUMNS)}")
    if _OUT.value:
        text = json.dumps({"title": title, "memory": rows}, indent=1) + "\n"
        pathlib.Path(_OUT.value).write_text(text)
    if _PICTURE.value:
        draw(rows, title, pathlib.Path(_PICTURE.value))


if __name__ == "__main__":
    cli.run(main)
