"""Continuations of held-out clips, measured: `python -m experiments.rollouts --runs=runs/state`.

Each run continues the first frames of held-out clips to their end, several times. The table shows
the PSNR of later frames against the real ones, of the best sample and on average, beside those of
two baselines, by which nothing moves. For moving_shapes it also shows the share of clips whose
objects are kept: with 0.7 to 1.4 of their area, at least 80% of it in one piece each.
"""

from absl import flags

from flowvid import cli, fields, paths

_RUNS = flags.DEFINE_list("runs", None, "Folders of runs with a tail.", required=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "last", "Checkpoint: last, best or a step.")
_VIDEOS = flags.DEFINE_integer("videos", 64, "Held-out clips to continue.", lower_bound=1)
_GIVEN = flags.DEFINE_integer("given", 4, "Frames given of each clip.", lower_bound=1)
_SAMPLES = flags.DEFINE_integer("samples", 4, "Continuations of each clip.", lower_bound=1)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", None, "Temperature of the samples. [the flow's default]", 0.0
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the samples.", 0, 2**31)
_OUT = fields.path_flag("out", "runs/rollouts", "Folder to write to.")


def main() -> None:
    """Continues clips by each run, measures the continuations, and writes and prints the table."""
    from experiments.rollout_measures import comparison, result_files

    out = paths.output_folder(_OUT.value, "use another --out")
    results, rollouts = comparison.compare(
        [paths.expand(run) for run in _RUNS.value],
        checkpoint=_CHECKPOINT.value,
        num_videos=_VIDEOS.value,
        given=_GIVEN.value,
        samples=_SAMPLES.value,
        temperature=_TEMPERATURE.value,
        seed=_SEED.value,
    )
    result_files.write(results, rollouts, out)
    print(
        f"{result_files.table(results)}\n{out} holds the numbers, curves.png, and sheets of the "
        "first clips."
    )


if __name__ == "__main__":
    cli.run(main)
