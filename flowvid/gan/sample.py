"""Samples videos from a GAN: `python -m flowvid.gan.sample --workdir=runs/gan_r1`.

Writes one file a video and a contact sheet, samples.png.
"""

import pathlib

import jax
import numpy as np
from absl import flags

from flowvid import checkpoints, cli, data, media
from flowvid.errors import ConfigError
from flowvid.gan import config, training

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
    settings, names = config.read(workdir)
    if _LABEL.value is not None and not settings.labels:
        raise ConfigError("this GAN is not conditioned on labels: leave out --label.")
    average = settings.ema_decay > 0
    template = {"generator": training.state_template(settings).generator.params}
    params, _ = checkpoints.restore_params(
        workdir, template, checkpoint=_CHECKPOINT.value, average=average
    )
    labels = np.arange(_NUM_VIDEOS.value) % len(names)
    if _LABEL.value is not None:
        labels = np.full(_NUM_VIDEOS.value, data.label_index(names, _LABEL.value))
    params = jax.tree.map(np.asarray, params["generator"])
    videos = training.sample(settings, params, labels, _SEED.value)
    out = pathlib.Path(_OUT.value or workdir / "samples")
    for i, video in enumerate(videos):
        media.write_video(out / f"{i:03d}.{_FORMAT.value}", video, fps=_FPS.value)
    captions = [names[i] for i in labels] if settings.labels else []
    media.write_image(out / "samples.png", media.contact_sheet(videos, captions=captions))
    print(f"{len(videos)} videos and the contact sheet samples.png are in {out}.")


if __name__ == "__main__":
    cli.run(main)
