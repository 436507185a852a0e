"""Faults of the disk: damaged checkpoints, and no space left."""

import contextlib
import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Iterator

from experiments.faults import messages
from experiments.faults.drill import Drill, expect, expect_readable, saved_steps
from experiments.faults.processes import Skipped


def truncate(path: pathlib.Path) -> None:
    """Cuts a file in half."""
    os.truncate(path, path.stat().st_size // 2)


def empty(path: pathlib.Path) -> None:
    """Removes all of a file's content."""
    os.truncate(path, 0)


def damage(harm: Callable[[pathlib.Path], None]) -> Callable[[Drill], str]:
    """Returns the fault of a newest checkpoint whose largest file is damaged by `harm`."""

    def damaged(drill: Drill) -> str:
        workdir = drill.folder("damaged")
        shutil.copytree(drill.uninterrupted(), workdir)
        *_, before, newest = saved_steps(workdir)
        files = [p for p in (workdir / "checkpoints" / str(newest)).rglob("*") if p.is_file()]
        harm(max(files, key=lambda path: path.stat().st_size))
        output = drill.finish(workdir)
        for message in (*messages.damaged(newest), messages.resumed(before)):
            expect(message in output, f"no message {message!r}: {output[-300:]}")
        expect((workdir / "damaged" / str(newest)).exists(), "not set aside")
        drill.expect_same_bits(workdir)
        return f"step {newest} reported and set aside, resumed from step {before}; same bits"

    return damaged


@contextlib.contextmanager
def _small_disk(folder: pathlib.Path, megabytes: int) -> Iterator[None]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        result = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Skipped("there is no mount command") from error
    if result.returncode:
        raise Skipped(f"mounting is not allowed: {' '.join(result.stderr.split())}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disk(drill: Drill) -> str:
    """Trains on a disk with room for some checkpoints but not for all, and then makes room.

    Raises:
        Failed: when something else than an error happens.
        Skipped: when no small disk can be mounted.
    """
    one = drill.uninterrupted() / "checkpoints" / str(drill.size.num_steps)
    size = sum(path.stat().st_blocks * 512 for path in one.rglob("*"))
    disk = drill.folder("disk")
    with _small_disk(disk, 32):
        workdir, filler = disk / "run", disk / "filler"
        filler.write_bytes(b"\0" * (2**25 - int(2.7 * size)))
        codes, output = drill.start(workdir).finish()
        expect(codes == {1}, f"exit codes {codes}: {output[-300:]}")
        expect(messages.FULL_DISK in output, output[-300:])
        expect_readable(workdir)
        finished = saved_steps(workdir)
        filler.unlink()
        drill.finish(workdir)
        drill.expect_same_bits(workdir)
    return f"reported, exit code 1; {finished} can be read; with room made, same bits"
