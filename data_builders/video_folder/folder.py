"""Lists a folder or zip file of clips or images: its labels, its splits, and its fingerprint."""

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_builders import files, listing, zip_listing
from data_builders.listing import File, Ignored, Item
from data_builders.video_folder import split_folders
from data_builders.video_folder.split_folders import Named
from flowvid.data import pictures
from flowvid.data.decoding import CLIP_SUFFIXES, IMAGE_SUFFIXES
from flowvid.errors import DataError

UNLABELLED = "unlabelled"
# The shares of the files that validation and test hold where there are no folders for them.
VALIDATION_SHARE, TEST_SHARE, SPLIT_SEED = 0.1, 0.1, 2
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

    Labels are the names of the folders; a single folder around all of them is skipped. Folders
    train/, validation/ and test/, at any depth, define the splits; see `split_folders.divide`.
    Without a folder for validation, a hash of each file's name selects a tenth of the training
    files for it and, if there is no folder for testing either, another tenth for that; adding
    files therefore moves no file to another split.

    Raises:
      DataError: if the folder does not exist or contains too few files, if a folder of a split
        cannot be used, if a file is in two splits, or if the file is not a readable zip file.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist. {_ADVICE}")
    tree = _walk(path)
    found, are_images, ignored = _of_one_kind(tree)
    if not found:
        held = "; it holds " + listing.counted(ignored) if ignored else ""
        raise DataError(f"{path} holds no clips and no images{held}. {_ADVICE}")
    digest = hashlib.sha256(repr([(file.name, file.version) for file in found]).encode())
    own, beside = split_folders.divide(path, found, tree.folders, ignored)
    own = {split: _without_repeats(named) for split, named in own.items()}
    _check_apart(path, own)
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


def _walk(path: Path) -> listing.Tree:
    if path.is_dir():
        return listing.walk(path)
    try:
        return zip_listing.walk(path)
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
            is_broken = file.reason == listing.BROKEN
            reason = file.reason if is_broken else "neither a clip nor an image by its ending"
            ignored.append(_ignored(file, reason))
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


def _without_repeats(named: Named) -> Named:
    listed = {file.name: file for file in listing.without_repeats(file for _, file in named)}
    return [(parts, listed[file.name]) for parts, file in named]


def _check_apart(path: Path, splits: dict[str, Named]) -> None:
    """Raises a DataError if a file on disk is in two splits, by symbolic or hard links."""
    first: dict[str, tuple[str, str]] = {}
    pairs = []
    for split, named in splits.items():
        for file in sorted(file for _, file in named if not file.reason):
            name = f"{listing.printable(file.name)} ({split})"
            split_before, before = first.setdefault(file.content, (split, name))
            if split_before != split:
                pairs.append(f"{before} and {name}")
    if pairs:
        more = f" (and {len(pairs) - 1} more)" if pairs[1:] else ""
        raise DataError(
            f"The same file is in two splits of {path}, by a link: {pairs[0]}{more}. Remove one of "
            "the names, so that nothing is evaluated that was trained on."
        )


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
