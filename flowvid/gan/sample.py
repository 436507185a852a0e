"""Samples videos from a GAN: `python -m flowvid.gan.sample --workdir=runs/gan_r1`.

Writes one file per video and a contact sheet, samples.png.
"""

from absl import flags

from flowvid import cli, fields, paths
from flowvid.conditioning.label_names import as_shown, label_index

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of this entry point; called where it is the program."""
    fields.path_flag("workdir", None, "Folder of the run.", required=True)
    flags.DEFINE_string("checkpoint", "last", "Checkpoint to use: last, or the number of a step.")
    flags.DEFINE_string("label", None, "Label of all videos. [each label in turn]")
    flags.DEFINE_integer("num_videos", 16, "Number of videos.", lower_bound=1)
    flags.DEFINE_enum("format", "gif", ["gif", "mp4"], "Format of the video files.")
    flags.DEFINE_integer("fps", 10, "Frames per second of the video files.", lower_bound=1)
    fields.path_flag("out", None, "Folder to write to. [<workdir>/samples]")
    flags.DEFINE_integer(
        "seed", 0, "Seed; video i depends on (seed, i) alone.", lower_bound=0, upper_bound=2**32 - 1
    )


def main() -> None:
    """Loads a checkpoint, samples, and writes the videos and the contact sheet."""
    # These import JAX, which --help does without.
    from flowvid.data import media
    from flowvid.gan import trained

    workdir = FLAGS.workdir
    out = FLAGS.out or workdir / "samples"
    gan = trained.load(workdir, checkpoint=FLAGS.checkpoint)
    paths.output_folder(out, "use another --out")
    videos = gan.sample(FLAGS.num_videos, FLAGS.label, seed=FLAGS.seed)
    names = (f"{i:03d}.{FLAGS.format}" for i in range(len(videos)))
    paths.note_files(out, ["samples.png", *names])
    for i, video in enumerate(videos):
        media.write_video(out / f"{i:03d}.{FLAGS.format}", video, fps=FLAGS.fps)
    captions: list[str] = []
    if gan.config.labels:
        shown, turns = as_shown(gan.label_names), gan.turns(len(videos))
        captions = [shown[label_index(gan.label_names, FLAGS.label or turn)] for turn in turns]
    media.write_image(out / "samples.png", media.contact_sheet(videos, captions=captions))
    print(f"Wrote {len(videos)} videos and the contact sheet samples.png to {out}.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
