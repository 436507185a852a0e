"""Paths that users give: home folders, caches, and folders that flowvid writes."""

import functools
import os
import sys
import tempfile
from pathlib import Path

from flowvid.errors import ConfigError

MARKER = ".flowvid-output"  # a file in folders that flowvid made
_MARKER_TEXT = (
    "flowvid made this folder, and leaves it out where it lists clips and images as a dataset.\n"
    "Delete this file to use them.\n"
)


def expand(path: str | os.PathLike[str]) -> Path:
    """Returns a path that a user gave, in which ~ and ~user stand for home folders.

    An unknown user's ~user is a name like any other.
    """
    return Path(os.path.expanduser(path))


@functools.cache
def cache_folder() -> Path:
    """Returns the user's folder for files that can be made again, such as compiled programs.

    It is XDG_CACHE_HOME or ~/.cache. Where there is no home folder, or it cannot be written to, as
    in some containers, it is a temporary folder, and a line on standard error says so.
    """
    folder = expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    if is_usable(folder):
        return folder
    fallback = Path(tempfile.gettempdir()) / f"flowvid-{os.getuid()}"
    print(
        f"There is no home folder that can be written to, so {fallback} holds prepared datasets "
        "and compiled programs.",
        file=sys.stderr,
    )
    return fallback


def is_usable(folder: Path) -> bool:
    """Returns whether a folder is absolute and can be written to; makes it if it is missing."""
    if not folder.is_absolute():  # ~ without a home folder
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def check_writable(folder: Path, advice: str) -> None:
    """Checks that files can be made in a folder, which is made if it is missing.

    Args:
      folder: the folder.
      advice: what to do otherwise, for the error message.

    Raises:
      ConfigError: naming the folder, the reason and the advice.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written to ({error.strerror}): {advice}.") from error


def output_folder(folder: Path, advice: str) -> Path:
    """Returns a folder to write to, after checking that it can be written to.

    A folder that is new or empty gets the file `MARKER`, so that what is written there does not
    become part of a dataset. One that holds files already is the user's, and gets none.

    Raises:
      ConfigError: as `check_writable` does.
    """
    is_new = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    check_writable(folder, advice)
    if is_new:
        (folder / MARKER).write_text(_MARKER_TEXT)
    return folder


def is_output(folder: Path) -> bool:
    """Returns whether flowvid made a folder; those of earlier versions are known by their files."""
    return (
        (folder / MARKER).exists()
        or ((folder / "config.json").exists() and (folder / "checkpoints").is_dir())
        or ((folder / "summary.json").exists() and (folder / "samples.png").exists())
    )
