"""Flow and GAN side by side: `python -m experiments.compare --runs=runs/state_label,runs/gan_r1`.

A GAN has no likelihood, so clips are compared: by the distance of their features from those of
held-out clips, by how much they differ from each other, and by the nearest training clip. Features
come from small classifiers that are trained here on the labels. Runs that differ in their seed
alone share a row, which shows their spread; runs that differ in other fields are shown apart.
"""

from absl import flags

from flowvid import cli, fields, paths

_RUNS = flags.DEFINE_list(
    "runs", None, "Folders of runs of flowvid.train and flowvid.gan.train.", required=True
)
_VIDEOS = flags.DEFINE_integer("videos", 256, "Clips per run.", lower_bound=2)
_TEMPERATURES = flags.DEFINE_list(
    "temperatures", ["0.7", "1"], "Temperatures of the flows; each has a row."
)
_CLASSIFIERS = flags.DEFINE_integer(
    "classifiers", 3, "Classifiers to train, each with its own seed.", lower_bound=1
)
_STEPS = flags.DEFINE_integer(
    "classifier_steps", 1000, "Training steps of each classifier.", lower_bound=0
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the clips.", 0, 2**32 - 1)
_OUT = fields.path_flag("out", "runs/comparison", "Folder to write to.")


def main() -> None:
    """Generates clips, compares them, and writes and prints the table."""
    from experiments.gan_comparison import comparison, result_files

    out = paths.output_folder(_OUT.value, "use another --out")
    paths.note_files(out, ["comparison.png"])
    result = comparison.compare(
        [paths.expand(run) for run in _RUNS.value],
        num_videos=_VIDEOS.value,
        temperatures=[float(value) for value in _TEMPERATURES.value],
        num_classifiers=_CLASSIFIERS.value,
        classifier_steps=_STEPS.value,
        seed=_SEED.value,
    )
    result_files.write(result, out)
    print(
        f"{result_files.markdown(result)}\n{out} holds the table, its numbers, clips and a picture."
    )


if __name__ == "__main__":
    cli.run(main)
