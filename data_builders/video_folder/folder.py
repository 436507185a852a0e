"""Lists a folder or zip file of clips or images: labels, splits, and when it has changed."""

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
HELD_OUT, HOLD_OUT_SEED = 0.1, 2  # of the clips, where there is no folder for validation
_TRAIN = {"train", "training"}
_VALIDATION = {"validation", "valid", "val"}
_TEST = {"test"}  # where there is none for validation
_ADVICE = (
    "Expected are clips (.mp4, .mov, .mkv, .webm, .avi, .gif, ...) or images (.png, .jpg, ...), in "
    "a folder for each label or all in one folder; and, for a validation set of your own, these in "
    "train/ and validation/."
)


class _File(NamedTuple):
    """A file as found: its name relative to the folder or zip file, and what changes with it."""

    name: str
    item: Item
    version: str


class Listing(NamedTuple):
    """What a folder holds. `fingerprint` changes when a file is added, removed or changed."""

    labels: list[str]
    splits: dict[str, list[Item]]
    fingerprint: str
    are_images: bool


def list_folder(path: Path) -> Listing:
    """Lists clips or, where there are none, images.

    Labels are the names of the folders; a single folder around all of them is looked through.
    Without a train/ and a validation/ folder a tenth is held out by a hash of each file's name, so
    that new files move none to the other side.

    Raises:
      DataError: the folder does not exist, holds too little, or is not a zip file.
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
    splits = _own_splits(named)
    labels = sorted({parts[0] for split in splits.values() for parts, _ in split if parts[1:]})
    items = {
        split: [_labelled(parts, item, bool(labels)) for parts, item in files_]
        for split, files_ in splits.items()
    }
    if set(items) == {"train"}:
        items = _hold_out(items["train"])
    ordered = {split: files.in_order(listed) for split, listed in items.items()}
    return Listing(labels or [UNLABELLED], ordered, digest.hexdigest(), are_images)


_Named = list[tuple[tuple[str, ...], Item]]  # the parts of a file's name, from the label on


def _without_wrapper(named: _Named) -> _Named:
    """Without the folder that holds all of the folders, as in zip files; it is no label."""
    while len({parts[0] for parts, _ in named}) == 1 and all(len(parts) > 2 for parts, _ in named):
        named = [(parts[1:], item) for parts, item in named]
    return named


def _own_splits(named: _Named) -> dict[str, _Named]:
    """What is in train/ and in validation/; where these are not there, all is for "train"."""

    def below(tops: set[str]) -> _Named:
        return [(p[1:], item) for p, item in named if p[0].lower() in tops and p[1:]]

    train, validation = below(_TRAIN), below(_VALIDATION) or below(_TEST)
    return {"train": train, "validation": validation} if train and validation else {"train": named}


def _hold_out(items: Sequence[Item]) -> dict[str, list[Item]]:
    """A tenth for validation, but at least one; and at least one for training."""
    usable = [item for item in items if not item.reason]
    if len(usable) < 2:
        raise DataError(
            f"{usable[0].id} is the only file: at least 2 are needed, one of them for validation."
        )
    ranked = sorted(usable, key=lambda item: files.position(item.id, HOLD_OUT_SEED))
    count = sum(files.position(item.id, HOLD_OUT_SEED) < HELD_OUT for item in usable)
    held_out = ranked[: min(max(count, 1), len(usable) - 1)]
    train = set(items) - set(held_out)
    return {"train": list(train), "validation": held_out}


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
        raise DataError(f"{path} is no zip file that can be read ({error}). {_ADVICE}") from error
    for member in members:
        name = PurePosixPath(member.filename)
        hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
        if not hidden and name.suffix.lower() in suffixes:
            item = Item(files.printable(member.filename), "", str(path), member.filename)
            yield _File(member.filename, item, f"{member.file_size} {member.CRC}")
