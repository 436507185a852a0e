"""What papers on video prediction measure: `python -m experiments.prediction --run=runs/state`.

Continues the first frames of held-out clips many times, and reports PSNR and SSIM of every later
frame: of the best sample and of the mean over samples, beside two baselines by which nothing moves.
As in SVG and SAVP, the best sample of a clip is the one with the best mean over its later frames,
chosen for each measure by that measure; it is not chosen anew at each frame. With networks of your
own it also reports LPIPS and a Fréchet distance of features. docs/prediction.md says how to compare
with published numbers. To resume an interrupted measurement, run the same command again.
"""

import shlex
import shutil
import sys

from absl import flags

from flowvid import cli, fields, paths

_RUN = fields.path_flag("run", None, "Folder of a run with a tail.", required=True)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "last", "The checkpoint, last, best or the number of a step."
)
_SPLIT = flags.DEFINE_enum(
    "split",
    None,
    ["validation", "test"],
    "Split of the run's dataset. [validation; with --checkpoint=best, test if there is one]",
)
_NUM_VIDEOS = flags.DEFINE_integer("num_videos", None, "Clips to continue, at most. [all]", 1)
_GIVEN = flags.DEFINE_integer("given", 2, "Frames given of each clip.", lower_bound=1)
_SAMPLES = flags.DEFINE_integer("samples", 100, "Continuations of each clip.", lower_bound=1)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", None, "Temperature of the samples. [the flow's default]", 0.0
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the samples and the classifier.", 0, 2**31)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 50, "Samples at a time, at most; fewer need less memory.", lower_bound=1
)
_LPIPS = fields.path_flag(
    "lpips", None, "ONNX file of a distance of two images float32 [N, 3, H, W] in [-1, 1]. [none]"
)
_FEATURES = fields.path_flag(
    "features",
    None,
    "ONNX file of features of clips float32 [N, 3, T, H, W] in [-1, 1], for a Fréchet distance. [a "
    "classifier that is trained on the dataset's labels]",
)
_STEPS = flags.DEFINE_integer(
    "classifier_steps", 1000, "Training steps of that classifier.", lower_bound=0
)
_OUT = fields.path_flag("out", None, "Folder to write to. [<run>/prediction]")


def main() -> None:
    """Measures the predictions of a run, and writes and prints the table."""
    from experiments.prediction_measures import prediction, result_files

    out = paths.output_folder(_OUT.value or _RUN.value / "prediction", "use another --out")
    keep_in = out / "unfinished_prediction"
    paths.note_files(out, [*result_files.FILES, keep_in.name])
    asked = prediction.Asked(
        checkpoint=_CHECKPOINT.value,
        split=_SPLIT.value,
        num_videos=_NUM_VIDEOS.value,
        given=_GIVEN.value,
        samples=_SAMPLES.value,
        temperature=_TEMPERATURE.value,
        seed=_SEED.value,
        batch_size=_BATCH_SIZE.value,
        lpips=_LPIPS.value,
        features=_FEATURES.value,
        classifier_steps=_STEPS.value,
    )
    found = prediction.measure(_RUN.value, asked, keep_in)
    command = shlex.join(["python", "-m", "experiments.prediction", *sys.argv[1:]])
    result_files.write(found, command, out)
    shutil.rmtree(keep_in, ignore_errors=True)
    print(
        f"{result_files.table(found.report)}\n\n{out} holds the numbers, curves.png, and "
        "samples.png with the first clips."
    )


if __name__ == "__main__":
    cli.run(main)
