"""Videos between two clips: `python -m flowvid.interpolate --workdir=runs/state`.

Both clips are turned into latents, and videos are made of latents between these: the ends are the
clips themselves. Writes one file per video and a contact sheet, interpolation.png.
"""

import itertools
from typing import Any

import numpy as np
from absl import flags
from jaxtyping import UInt8

import flowvid
from flowvid import cli, fields, paths
from flowvid.config import command_line
from flowvid.data import media, sources
from flowvid.errors import ConfigError

FLAGS = flags.FLAGS
Pair = UInt8[np.ndarray, "two frames height width channels"]


def define_flags() -> None:
    """Defines the flags of this entry point; called where it is the program."""
    command_line.define_checkpoint_flags()
    fields.path_flag("first", None, "Clip or image to begin with. [the first validation clip]")
    fields.path_flag("second", None, "Clip or image to end with. [the second validation clip]")
    flags.DEFINE_string("label", None, "Label of --first and --second, where the run needs one.")
    flags.DEFINE_integer("steps", 7, "Number of videos, with both ends.", lower_bound=2)
    flags.DEFINE_integer(
        "num_frames", None, "Frames per video; 1 is enough for images. [the run's]", lower_bound=1
    )
    flags.DEFINE_enum("format", "gif", ["gif", "mp4"], "Format of the video files; images are PNG.")
    flags.DEFINE_integer("fps", 10, "Frames per second of the video files.", lower_bound=1)
    fields.path_flag("out", None, "Folder to write to. [<workdir>/interpolation]")


def _ends(model: Any, num_frames: int) -> tuple[Pair, list[int]]:
    """Returns the two clips and their labels.

    Raises:
        ConfigError: for one of two files, a label where there are no files, and clips that are too
            short or too few.
    """
    files = (FLAGS.first, FLAGS.second)
    if all(files):
        clips = [next(sources.of_path(model, file, FLAGS.label)) for file in files]
    elif any(files):
        raise ConfigError("--first and --second go together: give both clips, or none.")
    elif FLAGS.label is not None:
        raise ConfigError("--label is that of --first and --second: validation clips have theirs.")
    else:
        clips = list(sources.of_split(model.config, "validation", 2))
    if len(clips) < 2:
        raise ConfigError("the validation split has one clip: give --first and --second.")
    videos = [list(itertools.islice(clip.frames, num_frames)) for clip in clips]
    if (shortest := min(map(len, videos))) < num_frames:
        raise ConfigError(f"a clip has {shortest} frames: use --num_frames={shortest} or fewer.")
    return np.array(videos), [clip.label for clip in clips]


def main() -> None:
    """Encodes both clips, decodes what is between them, and writes videos and a sheet."""
    model = flowvid.load(FLAGS.workdir, checkpoint=FLAGS.checkpoint, average=FLAGS.average)
    out = paths.output_folder(FLAGS.out or FLAGS.workdir / "interpolation", "use another --out")
    ends, labels = _ends(model, FLAGS.num_frames or model.config.num_frames)
    first, second = (model.encode(ends[i : i + 1], labels[i : i + 1]) for i in (0, 1))
    shares = np.linspace(0, 1, FLAGS.steps)
    videos = np.concatenate(
        [model.decode(first.mixed(second, s), [labels[int(s > 0.5)]]) for s in shares.tolist()]
    )
    single = videos.shape[1] == 1
    names = [f"{i:03d}.{'png' if single else FLAGS.format}" for i in range(len(videos))]
    paths.note_files(out, ["interpolation.png", *names])
    for name, video in zip(names, videos, strict=True):
        if single:
            media.write_image(out / name, video[0])
        else:
            media.write_video(out / name, video, fps=FLAGS.fps)
    sheet = media.contact_sheet(videos, captions=[f"{share:.0%}" for share in shares])
    media.write_image(out / "interpolation.png", sheet)
    print(f"{len(videos)} videos and the contact sheet interpolation.png are in {out}.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
