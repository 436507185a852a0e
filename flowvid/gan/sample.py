"""Samples videos from a GAN: `python -m flowvid.gan.sample --workdir=runs/gan_r1`.

Writes one file a video and a contact sheet, samples.png.
"""

import pathlib

from absl import flags

from flowvid import cli
from flowvid.data import media
from flowvid.gan import trained

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "last", "last, or a step's number.")
_LABEL = flags.DEFINE_string("label", None, "Label of all videos. [the labels take turns]")
_NUM_VIDEOS = flags.DEFINE_integer("num_videos", 16, "How many.", lower_bound=1)
_FORMAT = flags.DEFINE_enum("format", "gif", ["gif", "mp4"], "Of the video files.")
_FPS = flags.DEFINE_integer("fps", 10, "Frames a second of the video files.", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "Folder to write to. [<workdir>/samples]")
_SEED = flags.DEFINE_integer(
    "seed", 0, "Video i depends on (seed, i) alone.", lower_bound=0, upper_bound=2**32 - 1
)


def main() -> None:
    """Loads the newest checkpoint, samples, writes the videos and the contact sheet."""
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
    print(f"{len(videos)} videos and the contact sheet samples.png are in {out}.")


if __name__ == "__main__":
    cli.run(main)
