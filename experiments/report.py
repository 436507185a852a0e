"""One page about a run: `python -m experiments.report --workdir=runs/state_label`.

The page has the configuration, training curves, likelihoods beside baselines, and looping videos:
samples beside real clips and the nearest training clips, continuations, and several temperatures.
It is a single HTML file, report.html in --workdir, that loads nothing from anywhere.
"""

from absl import flags

from flowvid import cli, fields, paths

_WORKDIR = fields.path_flag("workdir", None, "Folder of the run.", required=True)
_OUT = fields.path_flag("out", None, "File to write. [<workdir>/report.html]")
_SAMPLES = flags.DEFINE_integer("samples", 16, "Videos to generate from nothing.", 1)
_CONTINUED = flags.DEFINE_integer("continued", 8, "Held-out clips to continue.", 0)
_NUM_GIVEN = flags.DEFINE_integer(
    "num_given", 4, "Frames of these clips that the model is given.", 1
)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", None, "Temperature of samples and continuations. [the flow's default]", 0.0
)
_SWEEP = flags.DEFINE_list("sweep", ["0", "0.5", "0.7", "0.85", "1"], "Temperatures to compare.")
_COMPARISON = fields.path_flag(
    "comparison", None, "Folder that experiments.compare wrote, to show it, too. [none]"
)
_OBEDIENCE = fields.path_flag(
    "obedience", None, "Folder that experiments.obedience wrote, to show it, too. [none]"
)
_PREDICTION = fields.path_flag(
    "prediction",
    None,
    "Folder that experiments.prediction wrote, to show it, too. [<workdir>/prediction if there]",
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the samples.", 0, 2**32 - 1)


def main() -> None:
    """Writes the page and prints where it is."""
    from experiments.run_report import page

    workdir = _WORKDIR.value
    out = _OUT.value or workdir / "report.html"
    paths.check_writable(out.parent, "use --out=<file in another folder>")
    prediction = _PREDICTION.value
    if prediction is None and (workdir / "prediction" / "prediction.json").exists():
        prediction = workdir / "prediction"
    contents = page.Contents(
        samples=_SAMPLES.value,
        continued=_CONTINUED.value,
        num_given=_NUM_GIVEN.value,
        temperature=_TEMPERATURE.value,
        sweep=[float(value) for value in _SWEEP.value],
        comparison=_COMPARISON.value,
        obedience=_OBEDIENCE.value,
        prediction=prediction,
        seed=_SEED.value,
    )
    out.write_text(page.render(workdir, contents), encoding="utf-8")
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MB, all in one file.")


if __name__ == "__main__":
    cli.run(main)
