"""The files of a figure: its data, from which its pictures are drawn."""

import pathlib

import numpy as np

from experiments.paper import figure_drawing
from experiments.paper.figure_data import Arrays
from flowvid.errors import ConfigError


def save(number: str, arrays: Arrays, folder: pathlib.Path) -> pathlib.Path:
    """Writes a figure's data to figureN.npz, in one move, and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"figure{number}.tmp"
    with temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return temporary.replace(folder / f"figure{number}.npz")


def draw(number: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """Draws a figure from its saved data as PNG and PDF, and returns their paths.

    Raises:
        ConfigError: when there is no saved data.
    """
    path = folder / f"figure{number}.npz"
    if not path.exists():
        raise ConfigError(f"{path} does not exist: leave --redraw out to make it.")
    with np.load(path) as file:
        figure = figure_drawing.DRAW[number](dict(file))
    written = [path.with_suffix(suffix) for suffix in (".png", ".pdf")]
    for picture in written:
        figure.savefig(picture, dpi=150)
    return written
