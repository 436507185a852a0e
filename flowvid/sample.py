"""Samples videos from a run: `python -m flowvid.sample --workdir=runs/prev_frame --num_videos=16`.

Writes one file a video and a contact sheet, samples.png; from nothing, or continuing a clip.
"""

import pathlib

import numpy as np
from absl import flags, logging

import flowvid
from flowvid import cli, media
from flowvid.config import ConfigError

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
_LABEL = flags.DEFINE_string("label", None, "Label of all videos. [drawn for each video]")
_NUM_VIDEOS = flags.DEFINE_integer("num_videos", 16, "How many.", lower_bound=1)
_NUM_FRAMES = flags.DEFINE_integer(
    "num_frames", None, "Frames a video, given ones included. [the run's]", lower_bound=1
)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", 0.7, "Multiplies the standard deviations of the latents.", lower_bound=0.0
)
_FIRST_FRAMES = flags.DEFINE_string(
    "first_frames", None, "A clip to continue; each video continues it in its own way."
)
_NUM_GIVEN = flags.DEFINE_integer(
    "num_given",
    4,
    "How many frames of --first_frames are given; from one alone nobody can know where things go.",
    lower_bound=1,
)
_FORMAT = flags.DEFINE_enum("format", "gif", ["gif", "mp4"], "Of the video files.")
_FPS = flags.DEFINE_integer("fps", 10, "Frames a second of the video files.", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "Folder to write to. [<workdir>/samples]")
_SEED = flags.DEFINE_integer("seed", 0, "Video i depends on (seed, i) alone.", lower_bound=0)


def main() -> None:
    """Loads the newest checkpoint, samples, writes the videos and the contact sheet."""
    workdir = pathlib.Path(_WORKDIR.value)
    model = flowvid.load(workdir)
    label = _LABEL.value
    if label is not None and not model.config.conditioning.labels:
        logging.warning(
            "The variant %s is not conditioned on labels: --label=%s is ignored.",
            model.config.variant,
            label,
        )
        label = None
    given = None
    if _FIRST_FRAMES.value is not None:
        clip = media.read_clip(_FIRST_FRAMES.value, _NUM_GIVEN.value, model.config.image_size)
        given = np.broadcast_to(clip, (_NUM_VIDEOS.value, *clip.shape))
    samples = model.sample(
        _NUM_VIDEOS.value,
        label,
        num_frames=_NUM_FRAMES.value,
        temperature=_TEMPERATURE.value,
        first_frames=given,
        seed=_SEED.value,
    )
    if not samples.finite.all():
        logging.warning(
            "%d of %d videos are not finite and are left out; a lower --temperature may help.",
            int((~samples.finite).sum()),
            len(samples.finite),
        )
    if not samples.finite.any():
        raise ConfigError(
            f"no video of {workdir} is finite, so nothing is written: the model has diverged; "
            "sample from an earlier checkpoint or train again with a lower --learning_rate."
        )
    out = pathlib.Path(_OUT.value or workdir / "samples")
    for i in np.flatnonzero(samples.finite):
        media.write_video(out / f"{i:03d}.{_FORMAT.value}", samples.videos[i], fps=_FPS.value)
    sheet = media.contact_sheet(samples.videos[samples.finite])
    media.write_image(out / "samples.png", sheet)
    print(f"{int(samples.finite.sum())} videos and the contact sheet samples.png are in {out}.")


if __name__ == "__main__":
    cli.run(main)
