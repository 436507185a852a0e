"""Lists a folder or zip file of clips or images: its labels, its splits, and its fingerprint."""

import collections
import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data_builders import files, listing
from data_builders.listing import File, Ignored, Item
from flowvid.data import pictures
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


class Listing(NamedTuple):
    """The contents of a folder.

    Attributes:
      labels: the names of the labels, sorted.
      splits: the files of each split; there are always "train" and "validation".
      hashed: the splits whose files were selected by a hash of their names.
      ignored: the files and folders that belong to no split, with the reasons.
      fingerprint: a digest that changes when a file is added, removed or changed.
      are_images: whether the files are single images.
    """

    labels: list[str]
    splits: dict[str, list[Item]]
    hashed: frozenset[str]
    ignored: list[Ignored]
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
      DataError: if the folder does not exist or contains too few files, if a folder of a split
        cannot be used, or if the file is not a readable zip file.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist. {_ADVICE}")
    tree = _walk(path)
    found, are_images, ignored = _of_one_kind(tree)
    if not found:
        held = "; it holds " + counted(ignored) if ignored else ""
        raise DataError(f"{path} holds no clips and no images{held}. {_ADVICE}")
    digest = hashlib.sha256(repr([(file.name, file.version) for file in found]).encode())
    own, beside = _own_splits(path, tree, ignored, [(_parts(file.name), file) for file in found])
    labels = sorted({parts[0] for split in own.values() for parts, _ in split if parts[1:]})
    splits = {
        split: [_labelled(parts, file, bool(labels)) for parts, file in files_]
        for split, files_ in own.items()
    }
    if "validation" not in splits:
        splits |= _hold_out(splits["train"], 0.0 if "test" in splits else TEST_SHARE)
    return Listing(
        labels or [UNLABELLED],
        {split: listing.in_order(listed) for split, listed in splits.items()},
        frozenset(splits) - frozenset(own),
        ignored + beside,
        digest.hexdigest(),
        are_images,
    )


def counted(ignored: Sequence[Ignored]) -> str:
    """Returns which files and folders were ignored for which reasons, as text."""
    reasons = collections.Counter(entry.reason for entry in ignored)
    example = {entry.reason: entry.name for entry in reversed(ignored)}
    return "; ".join(
        example[reason] + (f" and {count - 1} more" if count > 1 else "") + f" ({reason})"
        for reason, count in reasons.most_common()
    )


def _walk(path: Path) -> listing.Tree:
    if path.is_dir():
        return listing.walk(path)
    try:
        return listing.walk_zip(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path} is not a readable zip file ({error}). {_ADVICE}") from error


def _of_one_kind(tree: listing.Tree) -> tuple[list[File], bool, list[Ignored]]:
    """Returns the clips or, if there are none, the images; whether they are images; and the rest.

    Files with other endings and, beside clips, images are ignored.
    """
    clips, images, ignored = [], [], list(tree.ignored)
    for file in tree.files:
        if _is_clip(file):
            clips.append(file)
        elif file.suffix in IMAGE_SUFFIXES:
            images.append(file)
        else:
            ignored.append(_ignored(file, "neither a clip nor an image by its ending"))
    if clips:
        reason = "an image beside clips: images are used where there are no clips"
        ignored += [_ignored(file, reason) for file in images]
    return clips or images, not clips, ignored


def _is_clip(file: File) -> bool:
    """Returns whether a file is a clip by its ending or, since WebP can be either, by its start."""
    if file.suffix != ".webp" or file.reason:
        return file.suffix in CLIP_SUFFIXES
    try:
        with files.open_item(file.item()) as opened:
            return pictures.is_animated_webp(opened)
    except OSError:  # reported when it is decoded
        return False


def _ignored(file: File, reason: str) -> Ignored:
    return Ignored(listing.printable(file.name), reason)


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(listing.printable(name)).parts


_Named = list[tuple[tuple[str, ...], File]]  # the parts of a file's name, from the label on


def _own_splits(
    path: Path, tree: listing.Tree, ignored: Sequence[Ignored], named: _Named
) -> tuple[dict[str, _Named], list[Ignored]]:
    """Returns the files in the folders of the splits, and the files beside these folders.

    If there is train/ alone or none of these folders, all files are of "train". A folder around all
    others, as in zip files, is skipped.

    Raises:
      DataError: if a folder of a split holds nothing to use, or if there is no train/ beside it:
        its files are then not trained on, since they were meant for something else.
    """
    folders = [_parts(name) for name in tree.folders]
    depth = 0
    while True:
        split_of = {
            parts[depth]: split
            for parts in folders + [parts[:-1] for parts, _ in named]
            for split, names in _OWN.items()
            if len(parts) > depth and parts[depth].lower() in names
        }
        if len(set(split_of.values())) > 1 or (split_of and "train" not in split_of.values()):
            break
        tops = {parts[depth] for parts, _ in named}
        if len(tops) > 1 or any(len(parts) < depth + 3 for parts, _ in named):
            return {"train": [(parts[depth:], file) for parts, file in named]}, []
        folders = [parts for parts in folders if parts[depth : depth + 1] == tuple(tops)]
        depth += 1
    if "train" not in split_of.values():
        name = min(split_of)
        raise DataError(
            f"{path} holds the folder {name}/, but no folder train/, so that nothing is left to "
            f"train on: add train/, or give the folder {name}/ itself, or rename it if it is a "
            "label."
        )
    found: dict[str, _Named] = {split: [] for split in split_of.values()}
    beside = []
    for parts, file in named:
        split = split_of.get(parts[depth]) if parts[depth + 1 :] else None
        if split is None:
            reason = "beside the folders train/, validation/ and test/"
            beside.append(_ignored(file, reason))
        else:
            found[split].append((parts[depth + 1 :], file))
    for name, split in split_of.items():
        if not found[split]:
            inside = [
                entry for entry in ignored if name in PurePosixPath(entry.name).parts[: depth + 1]
            ]
            why = counted(inside) or "it is empty"
            raise DataError(
                f"The folder {name}/ in {path} holds nothing that can be used for {split}: {why}. "
                "Put clips or images there, or remove the folder."
            )
    return found, beside


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
    position = {item: listing.position(item.id, SPLIT_SEED) for item in usable}
    ranked = sorted(usable, key=lambda item: position[item])
    count = sum(place < VALIDATION_SHARE for place in position.values())
    count = min(max(count, 1), len(usable) - 1)
    validation = ranked[:count]
    test = [item for item in ranked[count:-1] if position[item] < VALIDATION_SHARE + test_share]
    train = list(set(items) - {*validation, *test})
    splits = {"train": train, "validation": validation, "test": test}
    return {split: listed for split, listed in splits.items() if listed}


def _labelled(parts: tuple[str, ...], file: File, has_labels: bool) -> Item:
    if len(parts) > 1:
        return file.item(parts[0])
    reason = "stands beside the folders of labels: move it into one" if has_labels else ""
    return file.item(UNLABELLED, reason)
