"""Flow and GAN side by side: `python -m experiments.compare --runs=runs/state_label,runs/gan_r1`.

A GAN has no likelihood, so that the clips are compared: by the distance of their features from
those of held-out clips, by how much they differ from each other, by the nearest training clip.
Features are those of small classifiers trained here on the labels. Runs that differ by their seed
alone are of one kind: their spread is told.
"""

import pathlib

from absl import flags

from experiments import comparison
from flowvid import cli

_RUNS = flags.DEFINE_list(
    "runs", None, "Folders of runs of flowvid.train and flowvid.gan.train.", required=True
)
_VIDEOS = flags.DEFINE_integer("videos", 256, "Clips of each run.", lower_bound=2)
_TEMPERATURES = flags.DEFINE_list("temperatures", ["0.7", "1"], "Of the flows; each is a kind.")
_CLASSIFIERS = flags.DEFINE_integer("classifiers", 3, "Trained, one a seed.", lower_bound=1)
_STEPS = flags.DEFINE_integer("classifier_steps", 1000, "Of their training.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Of the clips.", 0, 2**32 - 1)
_OUT = flags.DEFINE_string("out", "runs/comparison", "Folder to write to.")


def main() -> None:
    """Generates, compares, writes."""
    result = comparison.compare(
        [pathlib.Path(run) for run in _RUNS.value],
        num_videos=_VIDEOS.value,
        temperatures=[float(value) for value in _TEMPERATURES.value],
        num_classifiers=_CLASSIFIERS.value,
        classifier_steps=_STEPS.value,
        seed=_SEED.value,
    )
    out = pathlib.Path(_OUT.value)
    comparison.write(result, out)
    print(f"{comparison.markdown(result)}\nTable, numbers, clips and a picture are in {out}.")


if __name__ == "__main__":
    cli.run(main)
