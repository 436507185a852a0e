"""Lists the files below a folder, and says why others are left out.

This module must not import TensorFlow, since each decoding process imports it.
"""

import collections
import hashlib
import os
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from flowvid import paths

HIDDEN = "hidden"
WRITTEN = "written by flowvid"
_LEADS_OUT = "a symbolic link that leads out of the dataset's folder"
BROKEN = "a symbolic link to nothing"


class Item(NamedTuple):
    """A listed file.

    Attributes:
      id: its path as listed, printable, which identifies it within its split.
      label: the name of its label.
      path: its absolute path, or that of the zip file that contains it.
      member: its entry in the zip file, if there is one.
      reason: why it must be skipped, if the list alone tells, or empty.
    """

    id: str
    label: str
    path: str
    member: zipfile.ZipInfo | None = None
    reason: str = ""


class File(NamedTuple):
    """A file as it was found.

    Attributes:
      name: its path relative to the folder or zip file, with slashes.
      path: its path, or that of the zip file that contains it.
      version: a text that changes when the file changes.
      member: its entry in the zip file, if there is one.
      reason: why it must be skipped, or empty.
      content: a text that is the same for all names of one file on disk.
      is_link: whether its name is a symbolic link, or below one.
    """

    name: str
    path: str
    version: str
    member: zipfile.ZipInfo | None = None
    reason: str = ""
    content: str = ""
    is_link: bool = False

    @property
    def suffix(self) -> str:
        """The ending of its name, such as ".mp4", in lower case."""
        return PurePosixPath(self.name).suffix.lower()

    def item(self, label: str = "", reason: str = "") -> Item:
        """Returns the file as an item of a dataset."""
        return Item(printable(self.name), label, self.path, self.member, self.reason or reason)


class Ignored(NamedTuple):
    """A file or a folder, whose name then ends in a slash, that is not part of the dataset."""

    name: str
    reason: str


class Tree(NamedTuple):
    """What there is below a folder.

    Attributes:
      files: the visible files of any ending, sorted by their names.
      folders: the names of the visible folders that flowvid did not write, and of symbolic links
        to what may be a folder; those that are ignored are included.
      ignored: what was left out.
    """

    files: list[File]
    folders: list[str]
    ignored: list[Ignored]


def printable(name: str) -> str:
    """Returns a path as text of one line, whatever bytes it contains; no two paths become equal.

    Backslashes, control characters, bytes that are not UTF-8, and spaces around the name of a file
    or folder are escaped as in Python. TFDS stores labels one a line, without spaces around them.
    Names are read as UTF-8 in every locale.
    """
    # Python decodes the names of files as the locale says, and keeps what it cannot as surrogates.
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return "/".join(map(_escaped, name.split("/")))


def _escaped(name: str) -> str:
    inner = name.strip()
    start = name.index(inner)
    return "".join(
        _escape(character)
        if not start <= place < start + len(inner)
        or character == "\\"
        or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        else character
        for place, character in enumerate(name)
    )


def _escape(character: str) -> str:
    escaped = character.encode("unicode_escape").decode()
    return f"\\x{ord(character):02x}" if escaped == character else escaped


def in_order(items: Iterable[Item]) -> list[Item]:
    """Sorts items by a hash of their ids, which mixes labels; repeated ids get a reason."""
    seen: set[str] = set()
    listed = []
    for item in items:
        if item.id in seen:
            item = item._replace(reason="listed before")
        seen.add(item.id)
        listed.append(item)
    return sorted(listed, key=lambda item: position(item.id))


def position(clip_id: str, seed: int = 0) -> float:
    """Returns a number in [0, 1) that depends on a clip's id and a seed alone."""
    digest = hashlib.sha256(f"{seed}/{clip_id}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def counted(ignored: Sequence[Ignored]) -> str:
    """Returns which files and folders were ignored for which reasons, as text."""
    reasons = collections.Counter(entry.reason for entry in ignored)
    example = {entry.reason: entry.name for entry in reversed(ignored)}
    return "; ".join(
        example[reason] + (f" and {count - 1} more" if count > 1 else "") + f" ({reason})"
        for reason, count in reasons.most_common()
    )


def without_repeats(found: Iterable[File]) -> list[File]:
    """Returns files sorted by their names; those that are the same file as another get a reason.

    The one without a reason is the first whose name is no symbolic link or, if all are, the first.
    """
    first: dict[str, str] = {}
    listed = []
    for file in sorted(found, key=lambda file: (file.is_link, file.name)):
        name = file.name if file.reason else first.setdefault(file.content, file.name)
        if name != file.name:
            file = file._replace(reason=f"the same file as {printable(name)}")
        listed.append(file)
    return sorted(listed, key=lambda file: file.name)


def walk(root: Path) -> Tree:
    """Lists a folder. Links are followed if they stay below it; hidden files are left out.

    Files and folders that flowvid wrote are left out, too, unless the folder holds nothing else.
    """
    tree = Tree([], [], [])
    _add(tree, str(root), "", (os.path.realpath(root),))
    tree.files.sort(key=lambda file: file.name)
    return tree


def _add(tree: Tree, folder: str, prefix: str, around: tuple[str, ...]) -> None:
    """Adds a folder and what is in it to a tree.

    Args:
      tree: what was found.
      folder: the path of the folder.
      prefix: its name with a slash, to put before the names in it; empty for the outermost.
      around: the paths, without links, of the folders that lead here, this one last.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        _ignore(tree, prefix, f"not readable ({error.strerror})")
        return
    names = {entry.name for entry in entries}
    own = paths.own_entries(names, paths.read_note(Path(folder)) if paths.NOTE in names else None)
    if own == names and prefix and names:
        tree.ignored.append(Ignored(printable(prefix), WRITTEN))
        return
    if prefix:
        tree.folders.append(prefix[:-1])
    for entry in entries:
        if entry.name in (paths.MARKER, paths.NOTE):
            continue
        name, path, reason = prefix + entry.name, os.path.join(around[-1], entry.name), ""
        if entry.is_symlink():
            path = os.path.realpath(entry.path)
            reason = _refusal_of_link(path, around)
        is_folder = os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
        if entry.name.startswith("."):
            tree.ignored.append(Ignored(printable(name), HIDDEN))
        elif entry.name in own and own != names:
            tree.ignored.append(Ignored(printable(name) + "/" * is_folder, WRITTEN))
        elif not is_folder:
            if reason == BROKEN:
                tree.folders.append(name)
            is_link = path != os.path.join(around[0], name)
            tree.files.append(_file(name, entry.path, path, reason, is_link))
        elif reason:
            _ignore(tree, name + "/", reason)
        else:
            _add(tree, entry.path, name + "/", (*around, path))


def _ignore(tree: Tree, folder: str, reason: str) -> None:
    """Adds a folder, whose name ends in a slash, that is left out."""
    tree.folders.append(folder[:-1])
    tree.ignored.append(Ignored(printable(folder), reason))


def _refusal_of_link(target: str, around: tuple[str, ...]) -> str:
    """Returns why a symbolic link is not followed, or nothing; the arguments are as in `_add`."""
    if not os.path.exists(target):
        return BROKEN
    if os.path.commonpath((target, around[0])) != around[0]:
        return _LEADS_OUT
    return "a symbolic link to a folder around it" if target in around else ""


def _file(name: str, path: str, real: str, reason: str, is_link: bool) -> File:
    """Returns a file on disk; `real` is its path without links."""
    try:
        state = os.stat(path)
    except OSError:  # a link to nothing
        return File(name, path, "", None, reason, real, is_link)
    # Some file systems have no numbers of their own for files; these have one name each.
    content = f"{state.st_dev} {state.st_ino}" if state.st_nlink > 1 else real
    version = f"{state.st_size} {state.st_mtime_ns}"
    return File(name, path, version, None, reason, content, is_link)
