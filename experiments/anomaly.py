"""Do scores find unusual clips? `python -m experiments.anomaly --run=runs/state --other=folder`.

Scores held-out clips of the run's own dataset, which are normal, and clips of another kind. The
area under the ROC curve is the chance that an unusual clip has a larger score than a normal one:
50% says nothing, 100% everything. Beside the model's bits stand their excess over lossless H.264,
and two baselines that need no model: H.264's bits, and the mean difference of frames.
"""

from absl import flags

from flowvid import cli, fields, paths, plotting

_RUN = fields.path_flag("run", None, "Folder of a run.", required=True)
_OTHER = fields.path_flag("other", None, "Folder of unusual clips.", required=True)
_NORMAL = fields.path_flag("normal", None, "Folder of normal clips. [the run's validation split]")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "last", "Checkpoint: last, best or a step.")
_LABEL = flags.DEFINE_string("label", None, "Label of all clips, for a run with labels. [not told]")
_VIDEOS = flags.DEFINE_integer("videos", 64, "Largest number of clips of each kind.", lower_bound=2)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the bootstrap.", 0, 2**31)
_OUT = fields.path_flag("out", "runs/anomaly", "Folder to write to.")


def main() -> None:
    """Scores both kinds of clips, and writes and prints the areas."""
    from experiments.anomaly_detection import detection

    plotting.check()
    out = paths.output_folder(_OUT.value, "use another --out")
    paths.note_files(out, ["anomaly.json", "roc.png"])
    result = detection.measure(
        _RUN.value,
        normal=_NORMAL.value,
        other=_OTHER.value,
        checkpoint=_CHECKPOINT.value,
        label=_LABEL.value,
        videos=_VIDEOS.value,
        seed=_SEED.value,
    )
    detection.write(result, out)
    print(f"{detection.table(result)}\n{out} holds the numbers and roc.png.")


if __name__ == "__main__":
    cli.run(main)
