"""Evaluates a run: `python -m flowvid.evaluate --workdir=runs/prev_frame`.

Prints bits per dimension of head and tail on the validation split, beside trivial answers, and
writes them to <workdir>/evaluation.json.
"""

import pathlib

from absl import flags

import flowvid
from flowvid import cli, data, evaluation
from flowvid.errors import ConfigError
from flowvid.likelihood import METRICS

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "last", "last, best (of the validations during training), or a step's number."
)
_AVERAGE = flags.DEFINE_bool(
    "average", True, "Use the moving average of the parameters, where the run has --ema_decay."
)
_DATASET = flags.DEFINE_string("dataset", None, "Data set to evaluate on. [the run's own]")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where prepared data sets are. [the run's own]")
_NUM_VIDEOS = flags.DEFINE_integer("num_videos", None, "Videos to evaluate on. [all]")
_METRICS = flags.DEFINE_list(
    "metrics", None, f"Of {', '.join(METRICS)}. [the run's own bits, and paper]"
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Of the dequantisation noise.", lower_bound=0, upper_bound=2**32 - 1
)


def main() -> None:
    """Loads the newest checkpoint, scores the validation split, prints and writes the report."""
    workdir = pathlib.Path(_WORKDIR.value)
    model = flowvid.load(workdir, checkpoint=_CHECKPOINT.value, average=_AVERAGE.value)
    config = model.config
    metrics = _METRICS.value or [f"{config.n_bits}-bit", "paper"]
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ConfigError(f"unknown metric {unknown[0]!r}: use some of {', '.join(METRICS)}.")
    train, validation = (
        data.load(
            _DATASET.value or config.dataset,
            split,
            data_dir=_DATA_DIR.value or config.data_dir,
            num_frames=config.num_frames,
            image_size=config.image_size,
            max_skipped=config.max_skipped,
        )
        for split in ("train", "validation")
    )
    if config.conditioning.labels and validation.label_names != model.label_names:
        raise ConfigError(
            f"the labels of {validation.name} are not those that the run was trained on "
            f"({len(validation.label_names)} against {len(model.label_names)}): a model with "
            "labels can only be evaluated on a data set with the same ones."
        )
    report = evaluation.evaluate(
        model,
        train,
        validation,
        metrics=metrics,
        num_videos=len(validation) if _NUM_VIDEOS.value is None else _NUM_VIDEOS.value,
        seed=_SEED.value,
    )
    evaluation.write_report(report, workdir / "evaluation.json")
    print(evaluation.format_report(report))
    print(f"Written to {workdir / 'evaluation.json'}.")


if __name__ == "__main__":
    cli.run(main)
