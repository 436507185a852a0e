"""Evaluates a run: `python -m flowvid.evaluate --workdir=runs/prev_frame`.

Prints bits per dimension of the head and the tail on a held-out split, the baselines and the
label information. Writes them to <workdir>/evaluation.json, and numbers per video to
evaluation.npz. To resume an interrupted evaluation, run the same command again.
"""

import functools
import pathlib

from absl import flags, logging

import flowvid
from flowvid import cli
from flowvid.config import command_line
from flowvid.config.metrics import METRICS
from flowvid.config.schema import Config
from flowvid.data import datasets
from flowvid.errors import ConfigError

_WORKDIR, _CHECKPOINT, _AVERAGE = command_line.define_checkpoint_flags()
_DATASET = flags.DEFINE_string("dataset", None, "Dataset to evaluate on. [the run's]")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of prepared datasets. [the run's]")
_NUM_VIDEOS = flags.DEFINE_integer("num_videos", None, "Number of videos to evaluate. [all]")
_METRICS = flags.DEFINE_list("metrics", list(METRICS), f"Metrics, of {', '.join(METRICS)}.")
_NOISE_DRAWS = flags.DEFINE_integer(
    "noise_draws",
    4,
    "Noise draws for the importance-weighted bound; 1 skips it, which is faster.",
    lower_bound=1,
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the dequantisation noise.", lower_bound=0, upper_bound=2**32 - 1
)
_SPLIT = flags.DEFINE_enum(
    "split",
    None,
    ["validation", "test"],
    "Split to evaluate on. [validation; with --checkpoint=best, test if the dataset has one]",
)
command_line.define_distributed_flags()


def main() -> None:
    """Loads a checkpoint, evaluates it on a held-out split, prints and writes the report."""
    from flowvid.evaluation import evaluation_report, text_report
    from flowvid.parallel import processes

    if (others := command_line.distributed_flags()) is not None:
        processes.start(*others)
    workdir = pathlib.Path(_WORKDIR.value)
    model = flowvid.load(workdir, checkpoint=_CHECKPOINT.value, average=_AVERAGE.value)
    run = model.config
    if unknown := [name for name in _METRICS.value if name not in METRICS]:
        raise ConfigError(f"unknown metric {unknown[0]!r}: use some of {', '.join(METRICS)}.")
    load = functools.partial(
        datasets.load,
        _DATASET.value or run.dataset,
        data_dir=_DATA_DIR.value or run.data_dir,
        num_frames=run.num_frames,
        image_size=run.image_size,
        max_skipped=run.max_skipped,
    )
    with processes.first_goes_first("opening the datasets"):
        train, validation = load("train"), load(_split(run, load))
    if run.ablation.uses_labels and validation.label_names != model.label_names:
        raise ConfigError(
            f"the {len(validation.label_names)} labels of {validation.name} differ from the "
            f"{len(model.label_names)} labels that the run was trained on: a model with labels can "
            "only be evaluated on a dataset with the same labels."
        )
    keep_in = workdir / "unfinished_evaluation"
    result = evaluation_report.evaluate(
        model,
        train,
        validation,
        metrics=_METRICS.value,
        num_videos=len(validation) if _NUM_VIDEOS.value is None else _NUM_VIDEOS.value,
        seed=_SEED.value,
        noise_draws=_NOISE_DRAWS.value,
        checkpoint=_CHECKPOINT.value,
        keep_in=keep_in,
    )
    if not processes.is_first():
        return
    path = evaluation_report.write(result, workdir)
    evaluation_report.forget(keep_in)
    print(text_report.format_report(result.report))
    print(f"Written to {path}.")


def _split(run: Config, load: functools.partial) -> str:
    """Returns the split to evaluate on; warns if the checkpoint was chosen on that split."""
    from flowvid.parallel import processes

    split = _SPLIT.value
    if split is None:
        (name,) = load.args
        on_test = _CHECKPOINT.value == "best" and datasets.has_split(name, "test", **load.keywords)
        split = "test" if on_test else "validation"
    own = _DATASET.value in (None, run.dataset)
    if _CHECKPOINT.value == "best" and split == "validation" and own and processes.is_first():
        logging.warning(
            "--checkpoint=best was chosen on the same split, validation, so its bits per "
            "dimension are too low on average: use --checkpoint=last, or a dataset with a test "
            "split."
        )
    return split


if __name__ == "__main__":
    cli.run(main)
