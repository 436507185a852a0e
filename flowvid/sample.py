"""Samples videos from a run: `python -m flowvid.sample --workdir=runs/prev_frame --num_videos=16`.

Generates videos from nothing, or continues real frames. Writes one file per video and a contact
sheet, samples.png. With one frame per video, the files are images and the sheet is their grid.
Files grow while frames are sampled, so that videos may have any length.
"""

import contextlib
import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import flags, logging
from jaxtyping import Int, UInt8
from tqdm import tqdm

import flowvid
from flowvid import cli, fields, paths
from flowvid.conditioning.label_names import as_shown, label_index
from flowvid.config import command_line
from flowvid.data import datasets, decoding, media, sources
from flowvid.data.video_writer import VideoWriter
from flowvid.errors import ConfigError, Stopped

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
        "the flow's levels, the finest first. [1; of a mixture flow 0.4 for the frames after the "
        "first, and 0.6 for the details of the first]",
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
        "Number of --first_frames that are given; after a single one, which shows no motion, the "
        "motion is drawn where --context=unet sees a state. [4; 1 of images]",
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
    dataset = sources.to_continue(model, num_given)
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


def _write_videos(
    frames: Iterator[Any], out: pathlib.Path, count: int, num_frames: int
) -> tuple[Videos, np.ndarray]:
    """Writes each video frame after frame, until it is not finite.

    Args:
        frames: of `Model.stream`.
        out: the folder.
        count: the number of videos.
        num_frames: per video.

    Returns:
        The frames that the contact sheet shows, and the indices of the videos that are written.

    Raises:
        ConfigError: if no video is finite; none is written then.
        Stopped: by Ctrl-C; none is written then.
    """
    names = [f"{i:03d}.{FLAGS.format}" for i in range(count)]
    times, shown = media.sheet_times(num_frames), []
    bar = tqdm(total=num_frames, desc="sampling", unit="frame", leave=False)
    try:
        with contextlib.ExitStack() as files, bar:
            writers = [files.enter_context(VideoWriter(out / name, FLAGS.fps)) for name in names]
            for number, frame in enumerate(frames):
                kept = _finite(frame)
                for i, writer in enumerate(writers):
                    if frame.finite[i]:
                        writer.write(frame.pixels[i])
                    else:
                        writer.discard()
                if number in times:
                    shown.append(frame.pixels)
                bar.update()
            paths.note_files(out, [names[i] for i in kept])
    except KeyboardInterrupt as error:
        text = f"stopped after {bar.n} of {num_frames} frames: no video is written"
        raise Stopped(f"{text}.", signal.SIGINT) from error
    return np.stack(shown, axis=1), kept


def _write_images(frame: Any, out: pathlib.Path) -> tuple[Videos, np.ndarray]:
    """Writes single images, and returns what `_write_videos` does."""
    kept = _finite(frame)
    paths.note_files(out, [f"{i:03d}.png" for i in kept])
    for i in kept:
        media.write_image(out / f"{i:03d}.png", frame.pixels[i])
    return frame.pixels[:, None], kept


def _finite(frame: Any) -> np.ndarray:
    """Returns the indices of the videos that are finite up to a frame.

    Raises:
        ConfigError: if none is.
    """
    if not frame.finite.any():
        raise ConfigError(
            f"all samples of {FLAGS.workdir} are non-finite, so nothing is written: the model has "
            "diverged; train again with a lower --learning_rate or more --warmup_steps."
        )
    return np.flatnonzero(frame.finite)


def _contact_sheet(
    model: Any, shown: Videos, num_frames: int, real: np.ndarray | None, kept: np.ndarray
) -> np.ndarray:
    """Returns a sheet with one row per video, captioned by label, or a grid of images.

    Args:
        model: the run's model.
        shown: the frames of the samples that the sheet shows.
        num_frames: of the whole samples.
        real: clips that were continued, each shown above its continuation and padded with white
            frames; or None.
        kept: indices of the finite samples, which are shown.
    """
    if real is not None:
        known = np.full_like(shown, 255)
        for column, time in enumerate(media.sheet_times(num_frames)):
            if time < real.shape[1]:
                known[:, column] = real[:, time]
        rows = np.stack([known, shown], axis=1)[kept].reshape(-1, *shown.shape[1:])
        return media.contact_sheet(rows, captions=["real", "continued"] * len(kept))
    labels: list[str] = []
    if model.config.ablation.uses_labels:
        names, turns = as_shown(model.label_names), model.turns(len(shown))
        labels = [names[label_index(model.label_names, FLAGS.label or turns[i])] for i in kept]
    if num_frames == 1:
        return media.image_grid(shown[kept, 0], labels)
    return media.contact_sheet(shown[kept], captions=labels)


def main() -> None:
    """Loads a checkpoint, samples, and writes the videos and the contact sheet."""
    workdir = FLAGS.workdir
    out = FLAGS.out or workdir / ("continued" if FLAGS.first_frames else "samples")
    model = flowvid.load(workdir, checkpoint=FLAGS.checkpoint, average=FLAGS.average)
    num_frames = FLAGS.num_frames or model.config.num_frames
    num_given = _number_given()
    paths.output_folder(out, "use another --out")
    real, labels = _clips_to_continue(model, num_given)
    frames = model.stream(
        FLAGS.num_videos,
        _usable_label(model, real, labels),
        num_frames=num_frames,
        temperature=fields.numbers("temperature", FLAGS.temperature),
        guidance=FLAGS.guidance,
        first_frames=None if real is None else real[:, :num_given],
        labels=labels,
        seed=FLAGS.seed,
    )
    count = FLAGS.num_videos if real is None else len(real)
    single = num_frames == 1
    if single:
        shown, kept = _write_images(next(frames), out)
    else:
        shown, kept = _write_videos(frames, out, count, num_frames)
    if len(kept) < count:
        logging.warning(
            "%d of %d videos are non-finite and are skipped; try a lower --temperature.",
            count - len(kept),
            count,
        )
    paths.note_files(out, ["samples.png"])
    media.write_image(out / "samples.png", _contact_sheet(model, shown, num_frames, real, kept))
    files = "images" if single else "videos"
    print(f"{len(kept)} {files} and the contact sheet samples.png are in {out}.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
