"""Draws a figure from saved data, as the command does, and reads its curves."""

import imageio.v3 as iio
import numpy as np

from experiments.paper import figure_drawing


def drawn(number, arrays, tmp_path):
    """The picture of a figure, drawn from what was saved of it."""
    np.savez(tmp_path / "data.npz", **arrays)
    with np.load(tmp_path / "data.npz") as file:
        figure = figure_drawing.DRAW[number](dict(file))
    figure.savefig(tmp_path / "figure.png")
    return figure, iio.imread(tmp_path / "figure.png")


def lines(figure):
    """The curves of a figure by their legend."""
    return {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
