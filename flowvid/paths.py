"""Paths that users give: home folders, caches, and folders that flowvid writes."""

import contextlib
import functools
import io
import os
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from flowvid.errors import ConfigError

MARKER = ".flowvid-output"  # a file in folders of which flowvid wrote everything
NOTE = ".flowvid-files"  # a file in other folders, which lists what flowvid wrote there
_MARKER_TEXT = (
    "flowvid made this folder, and leaves it out where it lists clips and images as a dataset.\n"
    "Delete this file to use them.\n"
)
_NOTE_TEXT = (
    "# flowvid wrote the files below, and leaves them out where it lists clips and images as a\n"
    "# dataset. Delete this file to use them.\n"
)
_PREVIEW = frozenset({"samples.png", "samples.gif", "summary.json"})


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


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[io.BufferedIOBase]:
    """Opens a file under another name, which becomes `path` at the end: it is whole or not there.

    Its folder is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def output_folder(folder: Path, advice: str) -> Path:
    """Returns a folder to write to, after checking that it can be written to.

    A folder that is new or empty gets the file `MARKER`, so that what is written there does not
    become part of a dataset. One that holds files already is the user's, and gets the file `NOTE`;
    `note_files` adds to it what flowvid writes there.

    Raises:
      ConfigError: as `check_writable` does.
    """
    is_new = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    check_writable(folder, advice)
    if is_new:
        (folder / MARKER).write_text(_MARKER_TEXT, encoding="utf-8")
    note_files(folder, ())
    return folder


def note_files(folder: Path, names: Iterable[str]) -> None:
    """Notes that flowvid writes files to a folder, unless all of that folder is flowvid's.

    Args:
      folder: the folder, which `output_folder` returned.
      names: the names of the files or folders in it.
    """
    if is_output(folder):
        return
    text = read_note(folder) or _NOTE_TEXT
    added = [name for name in names if name not in text.splitlines()]
    (folder / NOTE).write_text(text + "".join(f"{name}\n" for name in added), encoding="utf-8")


def is_output(folder: Path) -> bool:
    """Returns whether flowvid wrote everything that is visible in a folder."""
    try:
        names = set(os.listdir(folder))
    except OSError:
        return False
    return bool(names) and own_entries(names, read_note(folder)) == names


def own_entries(names: Collection[str], note: str | None = None) -> set[str]:
    """Returns the names of what flowvid wrote in a folder, or all names if there is nothing else.

    What earlier versions wrote, without `MARKER` and `NOTE`, is known by its names.

    Args:
      names: the names of everything in the folder.
      note: the text of its file `NOTE`; None if there is none.
    """
    is_earlier_run = note is None and {"config.json", "checkpoints"} <= set(names)
    if MARKER in names or is_earlier_run:
        return set(names)
    own = set((note or "").splitlines())
    if {"samples.png", "summary.json"} <= set(names):
        own |= _PREVIEW
    own &= set(names)
    visible = {name for name in names if not name.startswith(".")}
    return set(names) if own and own >= visible else own


def read_note(folder: Path) -> str | None:
    """Returns the text of the file `NOTE` in a folder, or None if there is none."""
    try:
        return (folder / NOTE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
