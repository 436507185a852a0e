"""Samples videos from a run: `python -m flowvid.sample --workdir=runs/prev_frame --num_videos=16`.

Writes one file a video and a contact sheet, samples.png; from nothing, or continuing real frames.
With one frame a video, the files are images and the sheet is a grid of them.
"""

import pathlib

import numpy as np
from absl import flags, logging

import flowvid
from flowvid import cli
from flowvid.data import datasets, decoding, media
from flowvid.errors import ConfigError
from flowvid.video.model import Model, Videos

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "last", "last, best (of the validations during training), or a step's number."
)
_AVERAGE = flags.DEFINE_bool(
    "average", True, "Use the moving average of the parameters, where the run has --ema_decay."
)
_LABEL = flags.DEFINE_string("label", None, "Label of all videos. [the labels take turns]")
_NUM_VIDEOS = flags.DEFINE_integer("num_videos", 16, "How many.", lower_bound=1)
_NUM_FRAMES = flags.DEFINE_integer(
    "num_frames",
    None,
    "Frames a video, given ones included; 1: images. [the run's]",
    lower_bound=1,
)
_TEMPERATURE = flags.DEFINE_float(
    "temperature",
    1.0,
    "Multiplies the standard deviations of the latents: 1 is the model, less is calmer.",
    lower_bound=0.0,
)
_FIRST_FRAMES = flags.DEFINE_string(
    "first_frames",
    None,
    "What to continue: a clip, continued --num_videos times, or `validation`, the first clips of "
    "the run's own held-out split, drawn beside how they really go on. [nothing]",
)
_NUM_GIVEN = flags.DEFINE_integer(
    "num_given",
    None,
    "How many of the --first_frames are given; from one alone nobody can know where things go. [4]",
    lower_bound=1,
)
_FORMAT = flags.DEFINE_enum("format", "gif", ["gif", "mp4"], "Of the video files; images are PNG.")
_FPS = flags.DEFINE_integer("fps", 10, "Frames a second of the video files.", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "Folder to write to. [<workdir>/samples, or continued]")
_SEED = flags.DEFINE_integer(
    "seed", 0, "Video i depends on (seed, i) alone.", lower_bound=0, upper_bound=2**32 - 1
)

_VALIDATION = "validation"


def _clips_to_continue(model: Model, num_given: int) -> Videos | None:
    """Real clips [B, T, H, W, 3] of which the first `num_given` frames are given, or None."""
    source, config = _FIRST_FRAMES.value, model.config
    if source is None:
        if _NUM_GIVEN.value is not None:
            raise ConfigError("--num_given goes with --first_frames: say which frames are given.")
        return None
    model.check_tail("--first_frames")
    if source != _VALIDATION:
        clip = decoding.read_clip(source, num_given, config.image_size)
        return np.broadcast_to(clip, (_NUM_VIDEOS.value, *clip.shape))
    dataset = datasets.load(
        config.dataset,
        _VALIDATION,
        data_dir=config.data_dir,
        num_frames=max(num_given, config.num_frames),
        image_size=config.image_size,
        max_skipped=config.max_skipped,
    )
    batches = datasets.eval_batches(
        dataset, batch_size=_NUM_VIDEOS.value, num_videos=_NUM_VIDEOS.value
    )
    return next(batches)["video"]


def _usable_label(model: Model) -> str | None:
    """--label, unless it can have no effect."""
    label = _LABEL.value
    if label is None:
        return None
    if not model.config.ablation.uses_labels:
        reason = f"the variant {model.config.variant} is not conditioned on labels"
    elif _FIRST_FRAMES.value is not None:
        reason = "labels condition the first frame, which is given"
    else:
        return label
    logging.warning("--label=%s is ignored: %s.", label, reason)
    return None


def _contact_sheet(
    model: Model, videos: Videos, real: np.ndarray | None, kept: np.ndarray
) -> np.ndarray:
    """One row a video, captioned by label; continuations stand below how it really went on.

    `real` are the clips that were continued, or None; where they are shorter, the sheet is white.
    """
    if real is not None:
        known = np.full_like(videos, 255)
        length = min(real.shape[1], videos.shape[1])
        known[:, :length] = real[:, :length]
        rows = np.stack([known, videos], axis=1)[kept].reshape(-1, *videos.shape[1:])
        return media.contact_sheet(rows, captions=["real", "continued"] * len(kept))
    labels: list[str] = []
    if model.config.ablation.uses_labels:
        turns = model.turns(len(videos))
        labels = [_LABEL.value or turns[i] for i in kept]
    if videos.shape[1] == 1:
        return media.image_grid(videos[kept, 0], labels)
    return media.contact_sheet(videos[kept], captions=labels)


def main() -> None:
    """Loads the newest checkpoint, samples, writes the videos and the contact sheet."""
    workdir = pathlib.Path(_WORKDIR.value)
    model = flowvid.load(workdir, checkpoint=_CHECKPOINT.value, average=_AVERAGE.value)
    num_frames = _NUM_FRAMES.value or model.config.num_frames
    num_given = _NUM_GIVEN.value or 4
    real = _clips_to_continue(model, num_given)
    samples = model.sample(
        _NUM_VIDEOS.value,
        _usable_label(model),
        num_frames=num_frames,
        temperature=_TEMPERATURE.value,
        first_frames=None if real is None else real[:, :num_given],
        seed=_SEED.value,
    )
    kept = np.flatnonzero(samples.finite)
    if len(kept) < len(samples.finite):
        logging.warning(
            "%d of %d videos are not finite and are left out; try a lower --temperature.",
            len(samples.finite) - len(kept),
            len(samples.finite),
        )
    if not len(kept):
        raise ConfigError(
            f"no video of {workdir} is finite, so nothing is written: the model has diverged; "
            "train again with a lower --learning_rate or more --warmup_steps."
        )
    out = pathlib.Path(_OUT.value or workdir / ("samples" if real is None else "continued"))
    single = samples.videos.shape[1] == 1
    for i in kept:
        if single:
            media.write_image(out / f"{i:03d}.png", samples.videos[i, 0])
        else:
            media.write_video(out / f"{i:03d}.{_FORMAT.value}", samples.videos[i], fps=_FPS.value)
    media.write_image(out / "samples.png", _contact_sheet(model, samples.videos, real, kept))
    files = "images" if single else "videos"
    print(f"{len(kept)} {files} and the contact sheet samples.png are in {out}.")


if __name__ == "__main__":
    cli.run(main)
