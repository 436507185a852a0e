"""Gives back what flowvid.compress wrote: `python -m flowvid.decompress --workdir=runs/state`.

Needs the same run, on the same machine and with the same versions. Writes one lossless file per
clip: an FFV1 video in RGB, or a folder of PNG images.
"""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

from absl import flags
from tqdm import tqdm

import flowvid
from flowvid import cli, fields, paths
from flowvid.config import command_line
from flowvid.data import media
from flowvid.errors import ClipError

FLAGS = flags.FLAGS
_LONGEST_NAME = 80


def define_flags() -> None:
    """Defines the flags of this entry point; called where it is the program."""
    command_line.define_checkpoint_flags()
    fields.path_flag("file", None, "File that flowvid.compress wrote.", required=True)
    flags.DEFINE_enum("format", "mkv", ["mkv", "png"], "FFV1 video, or PNG images.")
    flags.DEFINE_integer("fps", 10, "Frames per second of videos.", lower_bound=1)
    fields.path_flag("out", None, "Folder to write to. [<file without its ending>]")


def main() -> None:
    """Loads a checkpoint and writes the clips of the file, each of them whole or not at all."""
    from flowvid.coding import coder

    model = flowvid.load(FLAGS.workdir, checkpoint=FLAGS.checkpoint, average=FLAGS.average)
    out = FLAGS.out or FLAGS.file.with_suffix("")
    try:
        with (
            FLAGS.file.open("rb") as file,
            tqdm(desc="decompressing", unit="frame", leave=False) as bar,
        ):
            clips = _with_frames(coder.receive(model, file), bar.update)
            paths.output_folder(out, "use another --out")
            count = 0
            for clip, frames in clips:
                path = out / f"{count:03d}_{_file_name(clip.name)}"
                paths.note_files(out, [path.name])
                media.write_lossless(path, frames, FLAGS.format, FLAGS.fps)
                count += 1
    except ClipError as error:
        raise ClipError(f"{FLAGS.file} {error}.") from error
    print(f"{count} clips: every pixel is as it was compressed.\nWritten to {out}.")


def _with_frames(parts: Iterator[Any], on_frame: Any) -> Iterator[tuple[Any, Iterator[Any]]]:
    """Yields each clip with its frames, which must be used up before the next clip."""
    from flowvid.coding.container import NewClip

    part = next(parts, None)

    def frames() -> Iterator[Any]:
        nonlocal part
        while (part := next(parts, None)) is not None and not isinstance(part, NewClip):
            on_frame()
            yield part

    while part is not None:
        yield part, frames()


def _file_name(name: str) -> str:
    """Returns a clip's name without what a file name, or a folder, must not hold."""
    return re.sub(r"[^\w-]+", "_", pathlib.PurePath(name).stem)[:_LONGEST_NAME]


if __name__ == "__main__":
    define_flags()
    cli.run(main)
