"""Samples videos from a GAN: `python -m flowvid.gan.sample --workdir=runs/gan_r1`.

Writes one file per video and a contact sheet, samples.png.
"""

import pathlib

from absl import flags

from flowvid import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "last", "Checkpoint to use: last, or the number of a step."
)
_LABEL = flags.DEFINE_string("label", None, "Label of all videos. [each label in turn]")
_NUM_VIDEOS = flags.DEFINE_integer("num_videos", 16, "Number of videos.", lower_bound=1)
_FORMAT = flags.DEFINE_enum("format", "gif", ["gif", "mp4"], "Format of the video files.")
_FPS = flags.DEFINE_integer("fps", 10, "Frames per second of the video files.", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "Folder to write to. [<workdir>/samples]")
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed; video i depends on (seed, i) alone.", lower_bound=0, upper_bound=2**32 - 1
)


def main() -> None:
    """Loads a checkpoint, samples, and writes the videos and the contact sheet."""
    # These import JAX, which --help does without.
    from flowvid.data import media
    from flowvid.gan import trained

    workdir = pathlib.Path(_WORKDIR.value)
    gan = trained.load(workdir, checkpoint=_CHECKPOINT.value)
    videos = gan.sample(_NUM_VIDEOS.value, _LABEL.value, seed=_SEED.value)
    out = pathlib.Path(_OUT.value or workdir / "samples")
    for i, video in enumerate(videos):
        media.write_video(out / f"{i:03d}.{_FORMAT.value}", video, fps=_FPS.value)
    captions: list[str] = []
    if gan.config.labels:
        captions = gan.turns(len(videos)) if _LABEL.value is None else [_LABEL.value] * len(videos)
    media.write_image(out / "samples.png", media.contact_sheet(videos, captions=captions))
    print(f"Wrote {len(videos)} videos and the contact sheet samples.png to {out}.")


if __name__ == "__main__":
    cli.run(main)
