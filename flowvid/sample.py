"""Samples videos from a run: `python -m flowvid.sample --workdir=runs/prev_frame --num_videos=16`.

Generates videos from nothing, or continues real frames. Writes one file per video and a contact
sheet, samples.png. With one frame per video, the files are images and the sheet is their grid.
"""

import pathlib
from typing import Any

import numpy as np
from absl import flags, logging
from jaxtyping import Int, UInt8

import flowvid
from flowvid import cli, fields, paths
from flowvid.conditioning.label_names import as_shown, label_index
from flowvid.config import command_line
from flowvid.data import datasets, decoding, media
from flowvid.errors import ConfigError

FLAGS = flags.FLAGS
_VALIDATION = "validation"
Labels = Int[np.ndarray, " batch"]
Videos = UInt8[np.ndarray, "batch frames height width channels"]


def define_flags() -> None:
    """Defines the flags of this entry point; called where it is the program."""
    command_line.define_checkpoint_flags()
    flags.DEFINE_string("label", None, "Label of all videos. [each label in turn]")
    flags.DEFINE_integer("num_videos", 16, "Number of videos.", lower_bound=1)
    flags.DEFINE_integer(
        "num_frames",
        None,
        "Frames per video, including given ones; 1 samples images. [the run's]",
        lower_bound=1,
    )
    flags.DEFINE_list(
        "temperature",
        None,
        "1 samples the model, less keeps to what is likelier. Several, such as 0.8,1, are those of "
        "the flow's levels, the finest first. [1; 0.4 for the frames after the first of a mixture "
        "flow]",
    )
    flags.DEFINE_float(
        "guidance",
        None,
        "How much the label counts: 1 samples the model, more makes the label plainer. [3 for the "
        "first frame of a mixture flow with labels and --label_dropout; 1]",
        lower_bound=0.0,
    )
    fields.path_flag(
        "first_frames",
        None,
        "What to continue: the path of a clip or image, which is continued --num_videos times, or "
        "`validation`: the first clips of the run's validation split, shown with their real "
        "frames. [nothing]",
    )
    flags.DEFINE_integer(
        "num_given",
        None,
        "Number of --first_frames that are given; a single frame shows no motion. [4; 1 of images]",
        lower_bound=1,
    )
    flags.DEFINE_enum("format", "gif", ["gif", "mp4"], "Format of the video files; images are PNG.")
    flags.DEFINE_integer("fps", 10, "Frames per second of the video files.", lower_bound=1)
    fields.path_flag("out", None, "Folder to write to. [<workdir>/samples or <workdir>/continued]")
    flags.DEFINE_integer(
        "seed", 0, "Seed; video i depends on (seed, i) alone.", lower_bound=0, upper_bound=2**32 - 1
    )


def _clips_to_continue(model: Any, num_given: int) -> tuple[Videos | None, Labels | None]:
    """Returns the clips whose first `num_given` frames are given, and their labels.

    Both are None where nothing is continued; the labels of a clip from a file are not known.

    Raises:
        ConfigError: for --num_given without clips, and for a run without a tail.
    """
    source, config = FLAGS.first_frames, model.config
    if source is None:
        if FLAGS.num_given is not None:
            raise ConfigError("--num_given goes with --first_frames: name the clips to continue.")
        return None, None
    model.check_tail("--first_frames")
    if source != pathlib.Path(_VALIDATION):
        clip = decoding.read_clip(source, num_given, config.image_size)
        return np.broadcast_to(clip, (FLAGS.num_videos, *clip.shape)), None
    dataset = datasets.load(
        config.dataset,
        _VALIDATION,
        **datasets.options_of(config) | {"num_frames": max(num_given, config.num_frames)},
    )
    if config.sees("tail").label and dataset.label_names != model.label_names:
        raise ConfigError(
            f"the labels of {dataset.name} have changed since this run was trained, so its tail "
            "cannot see them: train again."
        )
    count = _number_of_clips(dataset)
    clips = next(datasets.eval_batches(dataset, batch_size=count, num_videos=count))
    return clips["video"], clips["label"]


def _number_given() -> int:
    """Returns --num_given or, without it, one frame of a single picture and four of a clip."""
    source = FLAGS.first_frames
    if FLAGS.num_given is not None:
        return FLAGS.num_given
    is_file = source is not None and source != pathlib.Path(_VALIDATION)
    return 1 if is_file and decoding.is_single(source) else 4


def _temperature() -> list[float] | float | None:
    """Returns --temperature as numbers.

    Raises:
        ConfigError: if one is not a number.
    """
    if FLAGS.temperature is None:
        return None
    try:
        numbers = [float(value) for value in FLAGS.temperature]
    except ValueError as error:
        raise ConfigError(
            f"--temperature={','.join(FLAGS.temperature)}: use a number, or several with commas."
        ) from error
    return numbers if len(numbers) > 1 else numbers[0]


def _number_of_clips(dataset: datasets.Dataset) -> int:
    """Returns --num_videos, or the number of clips in the split where it has fewer."""
    asked, there = FLAGS.num_videos, len(dataset)
    if asked > there:
        text = (
            f"The {dataset.split} split has {there} clips, so {there} are continued, not {asked}."
        )
        if FLAGS["num_videos"].present:
            logging.warning(text)
        else:
            print(text)
    return min(asked, there)


def _usable_label(model: Any, real: Videos | None, labels: Labels | None) -> str | None:
    """Returns --label, or None where it has no effect.

    Raises:
        ConfigError: if the tail needs the label of a clip, and --label is missing.
    """
    label, sees = FLAGS.label, model.config.sees
    if label is None:
        if real is not None and labels is None and sees("tail").label:
            raise ConfigError(
                f"the tail of {model.config.variant} is conditioned on labels: give --label for "
                f"{FLAGS.first_frames}."
            )
        return None
    if not model.config.ablation.uses_labels:
        reason = f"the variant {model.config.variant} is not conditioned on labels"
    elif real is not None and not sees("tail").label:
        reason = "labels condition the first frame, which is given"
    else:
        return label
    logging.warning("--label=%s is ignored: %s.", label, reason)
    return None


def _contact_sheet(
    model: Any, videos: Videos, real: np.ndarray | None, kept: np.ndarray
) -> np.ndarray:
    """Returns a sheet with one row per video, captioned by label, or a grid of images.

    Args:
        model: the run's model.
        videos: the samples.
        real: clips that were continued, each shown above its continuation and padded with white
            frames; or None.
        kept: indices of the finite samples, which are shown.
    """
    if real is not None:
        known = np.full_like(videos, 255)
        length = min(real.shape[1], videos.shape[1])
        known[:, :length] = real[:, :length]
        rows = np.stack([known, videos], axis=1)[kept].reshape(-1, *videos.shape[1:])
        return media.contact_sheet(rows, captions=["real", "continued"] * len(kept))
    labels: list[str] = []
    if model.config.ablation.uses_labels:
        shown, turns = as_shown(model.label_names), model.turns(len(videos))
        labels = [shown[label_index(model.label_names, FLAGS.label or turns[i])] for i in kept]
    if videos.shape[1] == 1:
        return media.image_grid(videos[kept, 0], labels)
    return media.contact_sheet(videos[kept], captions=labels)


def main() -> None:
    """Loads a checkpoint, samples, and writes the videos and the contact sheet."""
    workdir = FLAGS.workdir
    out = FLAGS.out or workdir / ("continued" if FLAGS.first_frames else "samples")
    model = flowvid.load(workdir, checkpoint=FLAGS.checkpoint, average=FLAGS.average)
    num_frames = FLAGS.num_frames or model.config.num_frames
    num_given = _number_given()
    paths.output_folder(out, "use another --out")
    real, labels = _clips_to_continue(model, num_given)
    samples = model.sample(
        FLAGS.num_videos,
        _usable_label(model, real, labels),
        num_frames=num_frames,
        temperature=_temperature(),
        guidance=FLAGS.guidance,
        first_frames=None if real is None else real[:, :num_given],
        labels=labels,
        seed=FLAGS.seed,
    )
    kept = np.flatnonzero(samples.finite)
    if len(kept) < len(samples.finite):
        logging.warning(
            "%d of %d videos are non-finite and are skipped; try a lower --temperature.",
            len(samples.finite) - len(kept),
            len(samples.finite),
        )
    if not len(kept):
        raise ConfigError(
            f"all samples of {workdir} are non-finite, so nothing is written: the model has "
            "diverged; train again with a lower --learning_rate or more --warmup_steps."
        )
    single = samples.videos.shape[1] == 1
    ending = "png" if single else FLAGS.format
    paths.note_files(out, ["samples.png", *(f"{i:03d}.{ending}" for i in kept)])
    for i in kept:
        if single:
            media.write_image(out / f"{i:03d}.{ending}", samples.videos[i, 0])
        else:
            media.write_video(out / f"{i:03d}.{ending}", samples.videos[i], fps=FLAGS.fps)
    media.write_image(out / "samples.png", _contact_sheet(model, samples.videos, real, kept))
    files = "images" if single else "videos"
    print(f"{len(kept)} {files} and the contact sheet samples.png are in {out}.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
