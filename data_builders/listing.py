"""Lists the files below a folder or in a zip file, and says why others are left out.

This module must not import TensorFlow, since each decoding process imports it.
"""

import hashlib
import os
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from flowvid import paths

HIDDEN = "hidden"
_LEADS_OUT = "a symbolic link that leads out of the dataset's folder"


class Item(NamedTuple):
    """A listed file.

    Attributes:
      id: its path as listed, printable, which identifies it within its split.
      label: the name of its label.
      path: its absolute path, or that of the zip file that contains it.
      member: its name within the zip file, or empty.
      reason: why it must be skipped, if the list alone tells, or empty.
    """

    id: str
    label: str
    path: str
    member: str = ""
    reason: str = ""


class File(NamedTuple):
    """A file as it was found.

    Attributes:
      name: its path relative to the folder or zip file, with slashes.
      path: its path, or that of the zip file that contains it.
      version: a text that changes when the file changes.
      member: its name within the zip file, or empty.
      reason: why it must be skipped, or empty.
    """

    name: str
    path: str
    version: str
    member: str = ""
    reason: str = ""

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
      folders: the names of the visible folders, those that are ignored included.
      ignored: what was left out.
    """

    files: list[File]
    folders: list[str]
    ignored: list[Ignored]


def printable(name: str) -> str:
    """Returns a path as text of one line, whatever bytes it contains; no two paths become equal.

    Backslashes, control characters, bytes that are not UTF-8, and spaces around the name of a file
    or folder are escaped as in Python. TFDS stores labels one a line, without spaces around them.
    """
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


def walk(root: Path) -> Tree:
    """Lists a folder. Links are followed if they stay below it; hidden files are left out.

    A file that several names lead to is listed under its own name, or else under the first; under
    the others it has a reason to be skipped. Folders that flowvid wrote are left out.
    """
    tree = Tree([], [], [])
    real: dict[str, str] = {}  # the paths of the files without links, by their names
    _add(tree, real, str(root), "", (os.path.realpath(root),))
    own = {path: name for name, path in real.items() if path == f"{os.path.realpath(root)}/{name}"}
    for index, file in enumerate(tree.files):
        first = own.setdefault(real[file.name], file.name)
        if first != file.name and not file.reason:
            tree.files[index] = file._replace(reason=f"the same file as {printable(first)}")
    tree.files.sort(key=lambda file: file.name)
    return tree


def _add(
    tree: Tree, real: dict[str, str], folder: str, prefix: str, around: tuple[str, ...]
) -> None:
    """Adds what is in a folder to a tree.

    Args:
      tree: what was found.
      real: the paths of the files without links, by their names; this is added to.
      folder: the path of the folder.
      prefix: what to put before the names in it.
      around: the paths, without links, of the folders that lead here, this one last.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        tree.ignored.append(Ignored(printable(prefix), f"not readable ({error.strerror})"))
        return
    for entry in entries:
        name, path = prefix + entry.name, os.path.join(around[-1], entry.name)
        if entry.name.startswith("."):
            if entry.name != paths.MARKER:
                tree.ignored.append(Ignored(printable(name), HIDDEN))
            continue
        reason = ""
        if entry.is_symlink():
            path = os.path.realpath(entry.path)
            if os.path.commonpath((path, around[0])) != around[0]:
                reason = _LEADS_OUT
            elif path in around:
                reason = "a symbolic link to a folder around it"
        is_folder = os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
        if not is_folder:
            real[name] = path
            tree.files.append(File(name, entry.path, _version(entry.path), reason=reason))
            continue
        tree.folders.append(name)
        if not reason and paths.is_output(Path(entry.path)):
            reason = "written by flowvid"
        if reason:
            tree.ignored.append(Ignored(printable(name) + "/", reason))
        else:
            _add(tree, real, entry.path, name + "/", (*around, path))


def _version(path: str) -> str:
    """Returns the size of a file and the time of its last change, or nothing for a bad link."""
    try:
        state = os.stat(path)
    except OSError:
        return ""
    return f"{state.st_size} {state.st_mtime_ns}"


def walk_zip(path: Path) -> Tree:
    """Lists a zip file as the folder that unpackers make of it.

    Backslashes in names, which some programs write, separate folders.

    Raises:
      zipfile.BadZipFile: if it is not a zip file.
      OSError: if it cannot be read.
    """
    tree = Tree([], [], [])
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        name = member.filename.replace("\\", "/")
        if any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts):
            tree.ignored.append(Ignored(printable(name), HIDDEN))
        elif name.endswith("/"):
            tree.folders.append(name.rstrip("/"))
        else:
            version = f"{member.file_size} {member.CRC}"
            tree.files.append(File(name, str(path), version, member.filename))
    tree.files.sort(key=lambda file: file.name)
    return tree
