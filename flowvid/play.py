"""Plays with a run in a browser: `python -m flowvid.play --workdir=runs/state`.

Serves a page, to this machine alone, on which one chooses label, seed, temperature and lengths,
samples videos or continues validation clips, and watches them while they are sampled. Ctrl-C ends
it.
"""

import os

from absl import flags

import flowvid
from flowvid import cli
from flowvid.config import command_line

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of this entry point; called where it is the program."""
    command_line.define_checkpoint_flags()
    flags.DEFINE_integer(
        "port",
        8000,
        "Port of the page; 0 takes any that is free.",
        lower_bound=0,
        upper_bound=65535,
    )


def main() -> None:
    """Loads a checkpoint and serves the page until Ctrl-C."""
    from flowvid.playing.requests import Player
    from flowvid.playing.server import Server

    model = flowvid.load(FLAGS.workdir, checkpoint=FLAGS.checkpoint, average=FLAGS.average)
    server = Server(Player(model, FLAGS.workdir.resolve().name), FLAGS.port)
    try:
        print(f"Open {server.address} in a browser on this machine; Ctrl-C ends it.", flush=True)
        server.serve_forever()
    except KeyboardInterrupt:
        print(flush=True)
    if not server.stop():
        # A thread that is compiling cannot be stopped, and the process would abort at its end.
        os._exit(0)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
