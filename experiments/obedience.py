"""Do samples show their label? `python -m experiments.obedience --run=runs/label_everywhere`.

A classifier is trained on the run's real clips. It then classifies held-out clips, which says how
far it can be trusted, and samples of every label. The table shows how many are called by their
label, beside chance; the pictures show both confusion matrices and some samples. Labels that say
how things look are told from first frames with --frames=first. With --given=4, the first frames of
held-out clips are continued under their label, which says how labels of motions are obeyed.
"""

from absl import flags

from flowvid import cli, fields, paths, plotting

_RUN = fields.path_flag("run", None, "Folder of a run with labels.", required=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "last", "Checkpoint: last, best or a step.")
_LABELS = flags.DEFINE_list("labels", None, "Labels to tell apart. [all]")
_FRAMES = flags.DEFINE_enum(
    "frames",
    "all",
    ["all", "first"],
    "What the classifier sees of a clip: all frames or the first.",
)
_PER_LABEL = flags.DEFINE_integer("per_label", 32, "Samples for each label.", lower_bound=1)
_GIVEN = flags.DEFINE_integer(
    "given",
    0,
    "Frames of held-out clips to continue under their label; 0 samples from nothing.",
    lower_bound=0,
)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", None, "Temperature of the samples. [the flow's default]", 0.0
)
_GUIDANCE = flags.DEFINE_float(
    "guidance", None, "How much the label counts in samples. [the flow's default]", 0.0
)
_STEPS = flags.DEFINE_integer(
    "classifier_steps", 1500, "Training steps of the classifier.", lower_bound=0
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the classifier and the samples.", 0, 2**31)
_OUT = fields.path_flag("out", "runs/obedience", "Folder to write to.")


def main() -> None:
    """Trains the classifier, classifies, and writes and prints the table."""
    from experiments.label_obedience import obedience, result_files

    plotting.check()
    out = paths.output_folder(_OUT.value, "use another --out")
    paths.note_files(out, ["confusion.png", "samples.png"])
    result = obedience.measure(
        _RUN.value,
        labels=_LABELS.value,
        frames=_FRAMES.value,
        checkpoint=_CHECKPOINT.value,
        per_label=_PER_LABEL.value,
        given=_GIVEN.value,
        temperature=_TEMPERATURE.value,
        guidance=_GUIDANCE.value,
        steps=_STEPS.value,
        seed=_SEED.value,
    )
    result_files.write(result, out)
    print(
        f"{result_files.table(result)}\n{out} holds the numbers, confusion.png, and samples.png "
        "with the label and what the classifier calls it."
    )


if __name__ == "__main__":
    cli.run(main)
