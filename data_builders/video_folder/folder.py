"""Lists a folder or zip file of clips or images: its labels, its splits, and its fingerprint."""

import hashlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from etils import epath

from data_builders import files
from data_builders.files import Item
from flowvid.data.decoding import CLIP_SUFFIXES, IMAGE_SUFFIXES
from flowvid.errors import DataError

UNLABELLED = "unlabelled"
# The shares of the files that validation and test hold where there are no folders for them.
VALIDATION_SHARE, TEST_SHARE, SPLIT_SEED = 0.1, 0.1, 2
# The names of the folders that define the splits.
_OWN = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val"},
    "test": {"test"},
}
_ADVICE = (
    "Expected are clips (.mp4, .mov, .mkv, .webm, .avi, .gif, ...) or images (.png, .jpg, ...), in "
    "a folder for each label or all in one folder; to define the splits, put these into train/, "
    "validation/ and, optionally, test/."
)


class _File(NamedTuple):
    """A file as found: its name relative to the folder or zip file, and what changes with it."""

    name: str
    item: Item
    version: str


class Listing(NamedTuple):
    """The contents of a folder.

    Attributes:
      labels: the names of the labels, sorted.
      splits: the files of each split; there are always "train" and "validation".
      hashed: the splits whose files were selected by a hash of their names.
      beside: the files that belong to no split, since they are beside the folders of the splits.
      fingerprint: a digest that changes when a file is added, removed or changed.
      are_images: whether the files are single images.
    """

    labels: list[str]
    splits: dict[str, list[Item]]
    hashed: frozenset[str]
    beside: list[Item]
    fingerprint: str
    are_images: bool


def list_folder(path: Path) -> Listing:
    """Lists the clips of a folder or zip file or, if it has none, its images.

    Labels are the names of the folders; a single folder around all of them is skipped. The folders
    train/, validation/ and test/ define the splits if train/ and one of the others exist. Without
    a folder for validation, a hash of each file's name selects a tenth of the training files for
    it and, if there is no folder for testing either, another tenth for that; adding files
    therefore moves no file to another split.

    Raises:
      DataError: if the folder does not exist or contains too few files, or the file is not a
        readable zip file.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist. {_ADVICE}")
    find = _in_zip if path.is_file() else _in_folder
    found = list(find(path, CLIP_SUFFIXES))
    are_images = not found
    found = found or list(find(path, IMAGE_SUFFIXES))
    if not found:
        raise DataError(f"{path} holds no clips and no images. {_ADVICE}")
    digest = hashlib.sha256(repr([(file.name, file.version) for file in found]).encode())
    named = _without_wrapper([(PurePosixPath(file.item.id).parts, file.item) for file in found])
    own, beside = _own_splits(named)
    labels = sorted({parts[0] for split in own.values() for parts, _ in split if parts[1:]})
    splits = {
        split: [_labelled(parts, item, bool(labels)) for parts, item in files_]
        for split, files_ in own.items()
    }
    if "validation" not in splits:
        splits |= _hold_out(splits["train"], 0.0 if "test" in splits else TEST_SHARE)
    return Listing(
        labels or [UNLABELLED],
        {split: files.in_order(listed) for split, listed in splits.items()},
        frozenset(splits) - frozenset(own),
        beside,
        digest.hexdigest(),
        are_images,
    )


_Named = list[tuple[tuple[str, ...], Item]]  # the parts of a file's name, from the label on


def _without_wrapper(named: _Named) -> _Named:
    """Removes the folder that contains all of the folders, as in zip files; it is not a label."""
    while len({parts[0] for parts, _ in named}) == 1 and all(len(parts) > 2 for parts, _ in named):
        named = [(parts[1:], item) for parts, item in named]
    return named


def _own_splits(named: _Named) -> tuple[dict[str, _Named], list[Item]]:
    """Returns the files in the folders of the splits, and the files beside these folders.

    If there is no train/, or neither validation/ nor test/, all files are of "train".
    """
    found: dict[str, _Named] = {}
    beside = []
    for parts, item in named:
        split = next((s for s, names in _OWN.items() if parts[0].lower() in names), None)
        if split is None or not parts[1:]:
            beside.append(item)
        else:
            found.setdefault(split, []).append((parts[1:], item))
    if "train" in found and len(found) > 1:
        return found, beside
    return {"train": named}, []


def _hold_out(items: Sequence[Item], test_share: float) -> dict[str, list[Item]]:
    """Splits files by a hash of their names, with at least one for validation and one for training.

    Few files may leave "test" without any; it is then not in the result.
    """
    usable = [item for item in items if not item.reason]
    if not usable:
        raise DataError(f"There is no file to train on: {items[0].id} {items[0].reason}.")
    if len(usable) < 2:
        raise DataError(
            f"{usable[0].id} is the only file to train on: at least 2 are needed, one of them for "
            "validation."
        )
    position = {item: files.position(item.id, SPLIT_SEED) for item in usable}
    ranked = sorted(usable, key=lambda item: position[item])
    count = sum(place < VALIDATION_SHARE for place in position.values())
    count = min(max(count, 1), len(usable) - 1)
    validation = ranked[:count]
    test = [item for item in ranked[count:-1] if position[item] < VALIDATION_SHARE + test_share]
    train = list(set(items) - {*validation, *test})
    splits = {"train": train, "validation": validation, "test": test}
    return {split: listed for split, listed in splits.items() if listed}


def _labelled(parts: tuple[str, ...], item: Item, has_labels: bool) -> Item:
    if len(parts) > 1:
        return item._replace(label=parts[0])
    reason = "stands beside the folders of labels: move it into one" if has_labels else ""
    return item._replace(label=UNLABELLED, reason=reason)


def _in_folder(path: Path, suffixes: frozenset[str]) -> Iterator[_File]:
    for name in files.files_below(epath.Path(path), suffixes):
        full = path / name
        state = os.lstat(full)
        yield _File(
            name, Item(files.printable(name), "", str(full)), f"{state.st_size} {state.st_mtime_ns}"
        )


def _in_zip(path: Path, suffixes: frozenset[str]) -> Iterator[_File]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(archive.infolist(), key=lambda member: member.filename)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path} is not a readable zip file ({error}). {_ADVICE}") from error
    for member in members:
        name = PurePosixPath(member.filename)
        hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
        if not hidden and name.suffix.lower() in suffixes:
            item = Item(files.printable(member.filename), "", str(path), member.filename)
            yield _File(member.filename, item, f"{member.file_size} {member.CRC}")
