"""The paper's figures: `python -m experiments.figures --figures=5,6`.

Each is saved as data (figureN.npz), as PNG and as PDF in --workdir; --redraw draws from the data
alone. Of the figures 2 (faces), 3 (gradient of the label images) and 4 (first frames), --run says
which run they are of; 5 and 8 (overfitting one video), 6 (runs with and without clipping) and 7
(the GAN) train their own, and flags of `flowvid.train` change them; 1 is the model as configured.
"""

import pathlib

import numpy as np
from absl import flags
from tqdm import tqdm

from experiments import figure_data, figure_drawing
from flowvid import cli
from flowvid.config import command_line
from flowvid.errors import ConfigError

command_line.define_flags()
_FIGURES = flags.DEFINE_list("figures", None, f"Run: of {', '.join(figure_data.COLLECT)}. [all]")
_WORKDIR = flags.DEFINE_string("workdir", "runs/figures", "Run: folder of data and pictures.")
_RUN = flags.DEFINE_string("run", None, "Run: folder of the run that figures 1 to 4 are of.")
_CLIP = flags.DEFINE_string("clip", None, "Run: to overfit on. [the first one held out]")
_IMAGES = flags.DEFINE_integer("images", 16, "Run: to generate in figures 2 and 4.", 1)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.7, "Run: of figures 2 and 4.", 0.0)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Run: of the runs in figures 6 and 7, each twice.", 1)
_JOBS = flags.DEFINE_integer("jobs", 1, "Run: trainings at a time, sharing the cores.", 1)
_REDRAW = flags.DEFINE_bool("redraw", False, "Run: draw what is saved; collect nothing.")


def save(number: str, arrays: figure_data.Arrays, folder: pathlib.Path) -> pathlib.Path:
    """Writes a figure's data, in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"figure{number}.tmp"
    with temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return temporary.replace(folder / f"figure{number}.npz")


def draw(number: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """Draws a figure from its data.

    Raises:
        ConfigError: when there are none.
    """
    path = folder / f"figure{number}.npz"
    if not path.exists():
        raise ConfigError(f"{path} is not there: leave --redraw out, to make it.")
    with np.load(path) as file:
        figure = figure_drawing.DRAW[number](dict(file))
    written = [path.with_suffix(suffix) for suffix in (".png", ".pdf")]
    for picture in written:
        figure.savefig(picture, dpi=150)
    return written


def main() -> None:
    """Makes the figures asked for, one after another."""
    wanted = _FIGURES.value or list(figure_data.COLLECT)
    if unknown := [number for number in wanted if number not in figure_data.COLLECT]:
        known = ", ".join(figure_data.COLLECT)
        raise ConfigError(f"unknown figure {unknown[0]!r}: use some of {known}.")
    folder = pathlib.Path(_WORKDIR.value)
    for number in tqdm(wanted, desc="figures", unit="figure", leave=False):
        if not _REDRAW.value:
            request = figure_data.Request(
                folder=folder / f"figure{number}",
                run=pathlib.Path(_RUN.value) if _RUN.value else None,
                given=command_line.flags_given(),
                clip=pathlib.Path(_CLIP.value) if _CLIP.value else None,
                images=_IMAGES.value,
                temperature=_TEMPERATURE.value,
                seeds=_SEEDS.value,
                jobs=_JOBS.value,
            )
            save(number, figure_data.COLLECT[number](request), folder)
        tqdm.write(f"figure {number}: {', '.join(map(str, draw(number, folder)))}")


if __name__ == "__main__":
    cli.run(main)
