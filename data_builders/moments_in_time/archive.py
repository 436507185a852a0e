"""Reads the archive of Moments in Time, Raw or Mini: its labels and its lists of clips."""

import csv
import functools
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from etils import epath

from data_builders import listing
from data_builders.listing import Item
from flowvid.data.decoding import CLIP_SUFFIXES
from flowvid.errors import DataError

LAYOUT = """\
Expected in the folder given as --manual_dir, as the archive unpacks:
  training/<label>/*.mp4, validation/<label>/*.mp4
  moments_categories.txt              one row per label: label,index
  trainingSet.csv, validationSet.csv  one row per clip: label/clip.mp4,label,votes for,votes against
Without the lists, all clips in the folders are used, and the names of the folders are the labels.
Request the archive at http://moments.csail.mit.edu, unpack it and give its folder."""

SPLITS = {
    "train": ("trainingSet.csv", "training"),
    "validation": ("validationSet.csv", "validation"),
}
# The paper holds out 1% of the training clips for validation (section VI).
HELD_OUT, HOLD_OUT_SEED = 0.01, 1


def find_root(folder: str) -> epath.Path:
    """Returns the folder that contains training/: the given one, or the only such folder in it.

    Raises:
      DataError: if there is none, or if there are several.
    """
    root = epath.Path(folder)
    if (root / "training").is_dir():
        return root
    inner = [path for path in root.iterdir() if (path / "training").is_dir()]
    if len(inner) != 1:
        several = f"holds {len(inner)} archives, give one of them" if inner else "has no training/"
        raise DataError(f"{root} {several}.\n{LAYOUT}")
    return inner[0]


def read_labels(root: epath.Path) -> list[str]:
    """Returns the labels in the archive's order: by index in moments_categories.txt, else by name.

    Raises:
      DataError: if a row of moments_categories.txt is not label,index, or repeats one of them.
    """
    path = root / "moments_categories.txt"
    if not path.exists():
        folders = (folder.name for folder in (root / "training").iterdir() if folder.is_dir())
        return sorted(listing.printable(name) for name in folders if not name.startswith("."))
    by_index: dict[int, str] = {}
    for number, row in enumerate(_rows(path), start=1):
        name, index = (listing.printable(row[0]), row[1].strip()) if len(row) > 1 else ("", "")
        if not index.isdecimal() or int(index) in by_index or name in by_index.values():
            raise DataError(f"{path}, row {number}: {row} is not label,index, both of them new.")
        by_index[int(index)] = name
    return [by_index[index] for index in sorted(by_index)]


def splits(root: epath.Path, kind: str) -> dict[str, Callable[[], Sequence[Item]]]:
    """Returns a function for each split that lists its clips.

    Args:
      root: the archive.
      kind: "archive" for the archive's own validation clips, or "paper" for 1% of the training
        clips, selected by a hash of each clip's id, so that added clips move none to the other
        split.

    Raises:
      DataError: if the kind is another one.
    """
    if kind == "archive":
        return {split: functools.partial(list_clips, root, split) for split in SPLITS}
    if kind == "paper":
        return {split: functools.partial(_list_paper, root, split) for split in SPLITS}
    raise DataError(f"split={kind!r} is unknown: use archive or paper.")


def list_clips(root: epath.Path, split: str) -> list[Item]:
    """Lists the clips of the archive's own split: those of its list or, without one, of its folder.

    A bad row (an unknown label, a path that leads out of the archive, a repeated clip, too few
    columns) is listed with the reason for skipping it.

    Raises:
      DataError: if there are no clips at all.
    """
    list_name, folder_name = SPLITS[split]
    folder = root / folder_name
    if not folder.is_dir():
        raise DataError(
            f"{folder} is missing; without a validation folder, use --config=64x64_30f_paper_split."
            f"\n{LAYOUT}"
        )
    labels = set(read_labels(root))
    if (root / list_name).exists():
        items = [_from_row(row, folder, labels) for row in _rows(root / list_name)]
    else:
        items = list(_from_folder(folder, labels))
    if not items:
        raise DataError(f"{folder} holds no clips, or its list {list_name} is empty.\n{LAYOUT}")
    return listing.in_order(items)


def _list_paper(root: epath.Path, split: str) -> list[Item]:
    items = [
        item
        for item in list_clips(root, "train")
        if (listing.position(item.id, HOLD_OUT_SEED) < HELD_OUT) == (split == "validation")
    ]
    if not items:
        raise DataError(
            f"{root}/training has so few clips that 1% of them is none: no {split} split. Use the "
            "archive's own (--config=64x64_30f)."
        )
    return items


def _from_row(row: list[str], folder: epath.Path, labels: set[str]) -> Item:
    filename, label = row[0], listing.printable(row[1]) if len(row) > 1 else ""
    path = PurePosixPath(filename)
    reason = ""
    if len(row) < 2:
        reason = "its row has fewer than 2 columns"
    elif path.is_absolute() or ".." in path.parts:
        reason = "its path leads out of the archive"
    elif label not in labels:
        reason = f"unknown label {label!r}"
    return Item(listing.printable(filename), label, os.fspath(folder / filename), reason=reason)


def _from_folder(folder: epath.Path, labels: set[str]) -> Iterator[Item]:
    tree = listing.walk(Path(folder))
    for file in listing.without_repeats(tree.files):
        if file.suffix in CLIP_SUFFIXES:
            label = PurePosixPath(listing.printable(file.name)).parts[0]
            yield file.item(label, "" if label in labels else f"unknown label {label!r}")
    for name, reason in tree.ignored:
        if reason != listing.HIDDEN:
            yield Item(name, "", os.fspath(folder / name), reason=reason)


def _rows(path: epath.Path) -> Iterator[list[str]]:
    """Yields the rows of a CSV file without blank lines; names may contain any bytes.

    Raises:
      DataError: if a quote is not closed, so that the rest of the file is one field.
    """
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        yield from (row for row in reader if row)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: no CSV ({error}); fix it.") from error
