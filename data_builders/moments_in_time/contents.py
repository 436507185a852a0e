"""What an archive of Moments in Time holds, whether it is a folder or a zip file."""

import functools
import os
import zipfile
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from etils import epath

from data_builders import files, listing, zip_listing
from data_builders.listing import File, Ignored, Item, printable
from flowvid.errors import DataError


@runtime_checkable  # so that tests can check annotations
class Contents(Protocol):
    """The files of an archive. A folder's name is "training" or "validation"."""

    def has(self, folder: str) -> bool:
        """Returns whether there is a folder."""

    def read(self, name: str) -> bytes | None:
        """Returns the bytes of a file beside the folders, or None if there is no such file."""

    def subfolders(self, folder: str) -> list[str]:
        """Returns the names of the visible folders in a folder."""

    def tree(self, folder: str) -> listing.Tree:
        """Lists what is in a folder, with names relative to it."""

    def item(self, folder: str, name: str, label: str, reason: str) -> Item:
        """Returns the item of a file in a folder, which need not exist."""


def of(root: epath.Path) -> Contents:
    """Returns the contents of the folder or, by its ending, the zip file at `root`."""
    return Zipped(os.fspath(root)) if is_zip(root) else Unpacked(root)


def is_zip(root: epath.Path) -> bool:
    """Returns whether a path is that of a zip file, by its ending."""
    return root.suffix == ".zip"


class Unpacked:
    """The files of a folder."""

    def __init__(self, root: epath.Path) -> None:
        self.root = root

    def has(self, folder: str) -> bool:
        """As in `Contents`."""
        return (self.root / folder).is_dir()

    def read(self, name: str) -> bytes | None:
        """As in `Contents`."""
        path = self.root / name
        return path.read_bytes() if path.exists() else None

    def subfolders(self, folder: str) -> list[str]:
        """As in `Contents`."""
        found = (path.name for path in (self.root / folder).iterdir() if path.is_dir())
        return [name for name in found if not name.startswith(".")]

    def tree(self, folder: str) -> listing.Tree:
        """As in `Contents`."""
        return listing.walk(Path(self.root / folder))

    def item(self, folder: str, name: str, label: str, reason: str) -> Item:
        """As in `Contents`."""
        return Item(printable(name), label, os.fspath(self.root / folder / name), reason=reason)


class _Index(NamedTuple):
    """The files of a zip file, by their names below its outer folder, and what is no file."""

    files: dict[str, File]
    folders: list[str]
    ignored: list[Ignored]


class Zipped:
    """The files of a zip file, which need not be unpacked."""

    def __init__(self, path: str) -> None:
        self.path = path

    def has(self, folder: str) -> bool:
        """As in `Contents`."""
        index = self._index
        return any(name.startswith(f"{folder}/") for name in (*index.files, *index.folders))

    def read(self, name: str) -> bytes | None:
        """As in `Contents`."""
        file = self._index.files.get(name)
        if file is None:
            return None
        with files.open_item(file.item()) as opened:
            return opened.read()

    def subfolders(self, folder: str) -> list[str]:
        """As in `Contents`."""
        index = self._index
        names = [
            name.split("/") for name in (*(f"{name}/" for name in index.folders), *index.files)
        ]
        return sorted({parts[1] for parts in names if parts[0] == folder and len(parts) > 2})

    def tree(self, folder: str) -> listing.Tree:
        """As in `Contents`."""
        index, start = self._index, f"{folder}/"
        inside = [
            file._replace(name=name.removeprefix(start))
            for name, file in index.files.items()
            if name.startswith(start)
        ]
        ignored = [
            entry._replace(name=entry.name.removeprefix(start))
            for entry in index.ignored
            if entry.name.startswith(start)
        ]
        folders = [n.removeprefix(start) for n in index.folders if n.startswith(start)]
        return listing.Tree(inside, folders, ignored)

    def item(self, folder: str, name: str, label: str, reason: str) -> Item:
        """As in `Contents`."""
        file = self._index.files.get(f"{folder}/{name}")
        if file is None:
            return Item(printable(name), label, self.path, reason=reason or "no such file")
        return file._replace(name=name).item(label, reason)

    @property
    def _index(self) -> _Index:
        try:
            state = os.stat(self.path)
            return _index(self.path, state.st_size, state.st_mtime_ns)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{self.path} is not a readable zip file ({error}).") from error


@functools.lru_cache(maxsize=1)  # a million names take a minute to list
def _index(path: str, size: int, changed: int) -> _Index:
    """Lists a zip file; its size and when it was changed tell whether to list it again.

    Raises:
      DataError: if training/ is neither in the zip file nor in a single folder in it.
    """
    del size, changed
    tree = zip_listing.walk(Path(path))
    parts = [file.name.split("/", 2) for file in tree.files]
    outer = {"" for first, *_ in parts if first == "training"}
    outer |= {f"{p[0]}/" for p in parts if len(p) == 3 and p[1] == "training"}
    if len(outer) != 1:
        several = f"holds {len(outer)} archives" if outer else "has no training/"
        raise DataError(f"{path} {several}.")
    (start,) = outer
    shown = printable(start)
    return _Index(
        {f.name.removeprefix(start): f for f in tree.files if f.name.startswith(start)},
        [name.removeprefix(start) for name in tree.folders if name.startswith(start)],
        [
            entry._replace(name=entry.name.removeprefix(shown))
            for entry in tree.ignored
            if entry.name.startswith(shown)
        ],
    )
