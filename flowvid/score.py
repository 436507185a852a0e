"""Scores clips: `python -m flowvid.score --workdir=runs/state --clips=folder`.

Says for each frame how many bits per dimension the model needs for it, given the frames before it,
and how many more that is than lossless H.264 needs. Writes frames.csv and clips.csv, a time line,
and, for a mixture flow, videos that show where in the frames bits are spent.
"""

from absl import flags
from tqdm import tqdm

import flowvid
from flowvid import cli, fields, paths, plotting
from flowvid.config import command_line
from flowvid.data import sources

FLAGS = flags.FLAGS
_PRINTED = 20  # clips


def define_flags() -> None:
    """Defines the flags of this entry point; called where it is the program."""
    command_line.define_checkpoint_flags()
    command_line.define_clip_flags()
    flags.DEFINE_integer(
        "overlays", 8, "Videos and lines to draw, of the first clips; 0 needs no Matplotlib.", 0
    )
    flags.DEFINE_integer("fps", 10, "Frames per second of the videos.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the noise of a Glow.", 0, 2**32 - 1)
    fields.path_flag("out", None, "Folder to write to. [<workdir>/scores]")


def main() -> None:
    """Loads a checkpoint, scores clips, writes tables and pictures, and prints the means."""
    from flowvid.evaluation import clip_scores

    if FLAGS.overlays:
        plotting.check()
    model = flowvid.load(FLAGS.workdir, checkpoint=FLAGS.checkpoint, average=FLAGS.average)
    out = paths.output_folder(FLAGS.out or FLAGS.workdir / "scores", "use another --out")
    clips = sources.chosen(model, FLAGS.clips, FLAGS.label, FLAGS.split, FLAGS.num_videos)
    found: list[clip_scores.ClipScore] = []
    with tqdm(desc="scoring", unit="frame", leave=False) as bar:
        for clip in clips:
            one = clip_scores.score(model, clip, FLAGS.seed, bar.update)
            if len(found) < FLAGS.overlays and one.maps is not None:
                name = f"{len(found):03d}.mp4"
                paths.note_files(out, [name])
                clip_scores.write_overlay(one, out / name, FLAGS.fps)
            found.append(one._replace(frames=one.frames[:0], maps=None))
    paths.note_files(out, ["frames.csv", "clips.csv", "time_line.png"])
    clip_scores.write_tables(found, out)
    if FLAGS.overlays:
        clip_scores.draw_time_line(found[: FLAGS.overlays], out / "time_line.png")
    print(f"{'bits per dimension, later frames':40}{'model':>9}{'H.264':>9}{'excess':>9}")
    for one in found[:_PRINTED]:
        of_clip = clip_scores.means(one)
        print(
            f"{one.name[-40:]:40}{of_clip['bits']:>9.4f}{of_clip['codec_bits']:>9.4f}"
            f"{of_clip['excess']:>+9.4f}"
        )
    if len(found) > _PRINTED:
        print(f"... and {len(found) - _PRINTED} more clips in clips.csv")
    print(f"Written to {out}.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
