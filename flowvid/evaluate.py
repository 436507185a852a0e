"""Evaluates a run: `python -m flowvid.evaluate --workdir=runs/prev_frame`.

Prints bits per dimension of the head and the tail on a held-out split, the baselines and the
label information. Writes them to evaluation.json in the run's folder or in --out, and numbers per
video to evaluation.npz. To resume an interrupted evaluation, run the same command again.
"""

from typing import Any

from absl import flags

import flowvid
from flowvid import cli, fields, paths
from flowvid.config import command_line
from flowvid.config.metrics import METRICS
from flowvid.config.schema import Config
from flowvid.data import datasets
from flowvid.errors import ConfigError

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of this entry point; called where it is the program."""
    command_line.define_checkpoint_flags()
    flags.DEFINE_string("dataset", None, "Dataset to evaluate on. [the run's]")
    fields.path_flag("data_dir", None, "Folder of prepared datasets. [the run's]")
    command_line.define_feature_flags("the run's, of the run's dataset")
    flags.DEFINE_integer("num_videos", None, "Number of videos to evaluate. [all]")
    flags.DEFINE_integer(
        "label_videos",
        None,
        "Number of videos on which labels are compared. Each is scored once for every label, so "
        "fewer take less time. [all that are evaluated]",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "latent_label_videos",
        0,
        "Also report the label information of whole videos whose later frames follow one of all "
        "labels, which is latent. Its probability given the label is estimated on so many clips of "
        "the training split. 0: do not.",
        lower_bound=0,
    )
    flags.DEFINE_list(
        "metrics", None, f"Metrics, of {', '.join(METRICS)}. [all that fit the run's flow]"
    )
    flags.DEFINE_integer(
        "noise_draws",
        4,
        "Noise draws for the importance-weighted bound; 1 skips it, which is faster.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "seed", 0, "Seed of the dequantisation noise.", lower_bound=0, upper_bound=2**32 - 1
    )
    flags.DEFINE_enum(
        "split",
        None,
        ["validation", "test"],
        "Split to evaluate on. [validation; with --checkpoint=best, test if the dataset has one]",
    )
    fields.path_flag("out", None, "Folder to write the report to. [<workdir>]")
    command_line.define_distributed_flags()


def main() -> None:
    """Loads a checkpoint, evaluates it on a held-out split, prints and writes the report."""
    from flowvid.evaluation import evaluation_report, held_out, text_report
    from flowvid.parallel import processes

    if (others := command_line.distributed_flags()) is not None:
        processes.start(*others)
    workdir = FLAGS.workdir
    out = FLAGS.out or workdir
    model = flowvid.load(workdir, checkpoint=FLAGS.checkpoint, average=FLAGS.average)
    run = model.config
    paths.check_writable(out, "use --out=<another folder> for the report")
    metrics = FLAGS.metrics or run.metric_names
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ConfigError(f"unknown metric {unknown[0]!r}: use some of {', '.join(METRICS)}.")
    if other := [name for name in metrics if name not in run.metric_names]:
        raise ConfigError(
            f"metric {other[0]!r} does not have the {run.n_bits}-bit bins that --flow={run.flow} "
            f"models: use some of {', '.join(run.metric_names)}."
        )
    name, options = FLAGS.dataset or run.dataset, _options(run)
    with processes.first_goes_first("opening the datasets"):
        own = FLAGS.dataset in (None, run.dataset)
        split = held_out.choose_split(name, options, FLAGS.split, FLAGS.checkpoint, own)
        train, validation = (datasets.load(name, part, **options) for part in ("train", split))
    if run.ablation.uses_labels and validation.label_names != model.label_names:
        raise ConfigError(
            f"the {len(validation.label_names)} labels of {validation.name} differ from the "
            f"{len(model.label_names)} labels that the run was trained on: a model with labels can "
            "only be evaluated on a dataset with the same labels."
        )
    keep_in = out / "unfinished_evaluation"
    result = evaluation_report.evaluate(
        model,
        train,
        validation,
        metrics=metrics,
        num_videos=len(validation) if FLAGS.num_videos is None else FLAGS.num_videos,
        label_videos=FLAGS.label_videos,
        latent_label_videos=FLAGS.latent_label_videos,
        seed=FLAGS.seed,
        noise_draws=FLAGS.noise_draws,
        checkpoint=FLAGS.checkpoint,
        keep_in=keep_in,
    )
    if not processes.is_first():
        return
    path = evaluation_report.write(result, out)
    evaluation_report.forget(keep_in)
    print(text_report.format_report(result.report))
    print(f"Written to {path}.")


def _options(run: Config) -> dict[str, Any]:
    """Returns the arguments of `datasets.load`; another dataset has features of its own."""
    options = datasets.options_of(run)
    if FLAGS.data_dir:
        options["data_dir"] = FLAGS.data_dir
    for name in ("video_feature", "label_feature"):
        if FLAGS[name].value is not None:
            options[name] = FLAGS[name].value
        elif FLAGS.dataset not in (None, run.dataset):
            options[name] = None
    return options


if __name__ == "__main__":
    define_flags()
    cli.run(main)
