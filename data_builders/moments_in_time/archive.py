"""Reads the archive of Moments in Time, Raw or Mini: its labels and its lists of clips."""

import csv
import functools
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from etils import epath

from data_builders import files
from data_builders.files import Item
from flowvid.data.decoding import CLIP_SUFFIXES
from flowvid.errors import DataError

LAYOUT = """\
Expected in the folder given as --manual_dir, as the archive unpacks:
  training/<label>/*.mp4, validation/<label>/*.mp4
  moments_categories.txt               one row a label: label,index
  trainingSet.csv, validationSet.csv   one row a clip: label/clip.mp4,label,votes for,votes against
Without the lists, all clips in the folders are taken, and the folders' names are the labels.
Ask for the archive at http://moments.csail.mit.edu, unpack it and give its folder."""

SPLITS = {
    "train": ("trainingSet.csv", "training"),
    "validation": ("validationSet.csv", "validation"),
}
# The paper keeps 1% of the training clips for validation (section VI).
HELD_OUT, HOLD_OUT_SEED = 0.01, 1


def find_root(folder: str) -> epath.Path:
    """The folder that holds training/: the one given, or the only one in it that does.

    Raises:
      DataError: there is none, or there are several.
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
    """The labels in the archive's own order: by index in moments_categories.txt, else by name.

    Raises:
      DataError: moments_categories.txt has rows that are not label,index, or one of them twice.
    """
    path = root / "moments_categories.txt"
    if not path.exists():
        folders = (folder.name for folder in (root / "training").iterdir() if folder.is_dir())
        return sorted(files.printable(name) for name in folders if not name.startswith("."))
    by_index: dict[int, str] = {}
    for number, row in enumerate(_rows(path), start=1):
        name, index = (files.printable(row[0]), row[1].strip()) if len(row) > 1 else ("", "")
        if not index.isdecimal() or int(index) in by_index or name in by_index.values():
            raise DataError(f"{path}, row {number}: {row} is not label,index, both of them new.")
        by_index[int(index)] = name
    return [by_index[index] for index in sorted(by_index)]


def splits(root: epath.Path, kind: str) -> dict[str, Callable[[], Sequence[Item]]]:
    """For each split, a function that lists its clips.

    Args:
      root: the archive.
      kind: "archive", the archive's own validation; or "paper", 1% of the training clips, chosen
        by a hash of each clip's id, so that more clips move none to the other side.

    Raises:
      DataError: for another kind.
    """
    if kind == "archive":
        return {split: functools.partial(list_clips, root, split) for split in SPLITS}
    if kind == "paper":
        return {split: functools.partial(_list_paper, root, split) for split in SPLITS}
    raise DataError(f"split={kind!r} is unknown: use archive or paper.")


def list_clips(root: epath.Path, split: str) -> list[Item]:
    """The clips of the archive's own split: those of its list or, without one, of its folder.

    What is wrong with a row (an unknown label, a path that leads outside, a repeat, too few
    columns) becomes its reason to be skipped.

    Raises:
      DataError: there are no clips at all.
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
    return files.in_order(items)


def _list_paper(root: epath.Path, split: str) -> list[Item]:
    items = [
        item
        for item in list_clips(root, "train")
        if (files.position(item.id, HOLD_OUT_SEED) < HELD_OUT) == (split == "validation")
    ]
    if not items:
        raise DataError(
            f"{root}/training has so few clips that 1% of them is none: no {split} split. Use the "
            "archive's own (--config=64x64_30f)."
        )
    return items


def _from_row(row: list[str], folder: epath.Path, labels: set[str]) -> Item:
    filename, label = row[0], files.printable(row[1]) if len(row) > 1 else ""
    path = PurePosixPath(filename)
    reason = ""
    if len(row) < 2:
        reason = "its row has fewer than 2 columns"
    elif path.is_absolute() or ".." in path.parts:
        reason = "its path leads out of the archive"
    elif label not in labels:
        reason = f"unknown label {label!r}"
    return Item(files.printable(filename), label, os.fspath(folder / filename), reason=reason)


def _from_folder(folder: epath.Path, labels: set[str]) -> Iterator[Item]:
    for name in files.files_below(folder, CLIP_SUFFIXES):
        label = files.printable(PurePosixPath(name).parts[0])
        reason = "" if label in labels else f"unknown label {label!r}"
        yield Item(files.printable(name), label, os.fspath(folder / name), reason=reason)


def _rows(path: epath.Path) -> Iterator[list[str]]:
    """The rows of a CSV file, blank lines left out; names may hold any bytes.

    Raises:
      DataError: a quote that nothing closes makes a field of the rest of the file.
    """
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        yield from (row for row in reader if row)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: no CSV ({error}); mend it.") from error
