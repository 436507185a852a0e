"""Lists the files in a zip file, and says why others are left out.

This module must not import TensorFlow, since each decoding process imports it.
"""

import collections
import stat
import zipfile
from pathlib import Path, PurePosixPath

from data_builders.listing import HIDDEN, WRITTEN, File, Ignored, Tree, printable
from flowvid import paths

_LINK = "a symbolic link in a zip file"
_REPLACED = "another file in the zip file has the same name"
_MOST_NOTED = 2**20  # bytes that are read of a file `paths.NOTE`


def walk(path: Path) -> Tree:
    """Lists a zip file as the folder that unpackers make of it.

    Backslashes in names, which some programs write, separate folders. Of several files with the
    same name, the last is listed, since unpackers replace the others by it. Symbolic links are
    left out; the rest is as in `listing.walk`.

    Raises:
      zipfile.BadZipFile: if it is not a zip file.
      OSError: if it cannot be read.
    """
    tree = Tree([], [], [])
    members: dict[str, zipfile.ZipInfo] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.replace("\\", "/")
            clean = str(PurePosixPath(name.lstrip("/")))
            if _is_hidden(clean) and PurePosixPath(clean).name not in (paths.MARKER, paths.NOTE):
                tree.ignored.append(Ignored(printable(name), HIDDEN))
            elif name.endswith("/"):
                tree.folders.append(clean)
            else:
                if clean in members:
                    replaced = printable(members[clean].filename)
                    tree.ignored.append(Ignored(replaced, _REPLACED))
                members[clean] = member
        own = _own(archive, members)
    tree.ignored.extend(Ignored(printable(name), WRITTEN) for name in sorted(own))
    tree.folders[:] = [name for name in tree.folders if not _is_below(name + "/", own)]
    for name, member in members.items():
        if _is_hidden(name) or _is_below(name, own):
            continue
        if stat.S_ISLNK(member.external_attr >> 16):
            tree.folders.append(name)
            tree.ignored.append(Ignored(printable(name), _LINK))
        else:
            version = f"{member.file_size} {member.CRC}"
            tree.files.append(File(name, str(path), version, member, content=name))
    tree.files.sort(key=lambda file: file.name)
    return tree


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _is_below(name: str, own: set[str]) -> bool:
    """Returns whether a name, or a folder around it, is in a set; folders end in a slash."""
    parts = name.split("/")
    return name in own or any("/".join(parts[:end]) + "/" in own for end in range(1, len(parts)))


def _own(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> set[str]:
    """Returns the names of the files and folders that flowvid wrote; folders end in a slash."""
    inside: dict[str, set[str]] = collections.defaultdict(set)  # the names in each folder
    for name in members:
        while name:
            folder, _, last = name.rpartition("/")
            inside[folder].add(last)
            name = folder
    own: set[str] = set()
    for folder, names in inside.items():
        prefix = folder + "/" if folder else ""
        note = members.get(prefix + paths.NOTE)
        found = paths.own_entries(names, None if note is None else _text(archive, note))
        if found != names:
            for entry in found:
                is_folder = prefix + entry in inside
                own.add(prefix + entry + "/" * is_folder)
        elif prefix:
            own.add(prefix)
    return {name for name in own if not _is_below(name.rstrip("/"), own - {name})}


def _text(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    """Returns the beginning of a file as text, or nothing if it cannot be read."""
    try:
        with archive.open(member) as file:
            return file.read(_MOST_NOTED).decode("utf-8", "replace")
    except Exception:  # damage and encryption raise errors of many types
        return ""
