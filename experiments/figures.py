"""The paper's figures: `python -m experiments.figures --figures=5,6`.

Each figure is saved in --workdir as data (figureN.npz), PNG and PDF; --redraw draws from the saved
data alone. Figures 2 (faces), 3 (gradient of the label images) and 4 (first frames) show the run
that --run names. Figures 5 and 8 (overfitting one video), 6 (runs with and without clipping) and 7
(the GAN) train their own runs, with the flags of `flowvid.train` that are given. Figure 1 shows the
model of --run or of the flags.
"""

from absl import flags
from tqdm import tqdm

from flowvid import cli, fields, paths
from flowvid.config import command_line
from flowvid.errors import ConfigError

command_line.define_flags()
_FIGURES = flags.DEFINE_list("figures", None, "Run: numbers of figures, 1 to 8. [all]")
_WORKDIR = fields.path_flag("workdir", "runs/figures", "Run: folder of data and pictures.")
_RUN = fields.path_flag("run", None, "Run: folder of the run that figures 1 to 4 show.")
_CLIP = fields.path_flag("clip", None, "Run: clip to overfit. [the first held-out clip]")
_IMAGES = flags.DEFINE_integer("images", 16, "Run: images to generate in figures 2 and 4.", 1)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.7, "Run: temperature in figures 2 and 4.", 0.0)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Run: seeds of each kind of run in figures 6 and 7.", 1)
_JOBS = flags.DEFINE_integer("jobs", 1, "Run: trainings at a time, which share the cores.", 1)
_REDRAW = flags.DEFINE_bool("redraw", False, "Run: draw the saved data, and train nothing.")


def main() -> None:
    """Makes the figures, one after another."""
    from experiments.paper import figure_data, figure_files

    known = list(figure_data.COLLECT)
    wanted = _FIGURES.value or known
    if unknown := [number for number in wanted if number not in known]:
        raise ConfigError(f"unknown figure {unknown[0]!r}: use some of {', '.join(known)}.")
    folder = paths.output_folder(_WORKDIR.value, "use another --workdir")
    for number in tqdm(wanted, desc="figures", unit="figure", leave=False):
        paths.note_files(folder, [f"figure{number}", f"figure{number}.png"])
        if not _REDRAW.value:
            request = figure_data.Request(
                folder=folder / f"figure{number}",
                run=_RUN.value,
                given=command_line.flags_given(),
                clip=_CLIP.value,
                images=_IMAGES.value,
                temperature=_TEMPERATURE.value,
                seeds=_SEEDS.value,
                jobs=_JOBS.value,
            )
            figure_files.save(number, figure_data.COLLECT[number](request), folder)
        tqdm.write(f"figure {number}: {', '.join(map(str, figure_files.draw(number, folder)))}")


if __name__ == "__main__":
    cli.run(main)
