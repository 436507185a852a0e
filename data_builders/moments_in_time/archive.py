"""Reads an archive of Moments in Time, of any version: its labels and its lists of clips."""

import csv
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from etils import epath

from data_builders import listing
from data_builders.listing import Item
from data_builders.moments_in_time import contents, subset
from flowvid.data.decoding import CLIP_SUFFIXES
from flowvid.errors import DataError

LAYOUT = """\
Expected in the folder given as --manual_dir: the archive's zip file or, as it unpacks,
  training/<label>/*.mp4, validation/<label>/*.mp4
  moments_categories.txt              one row per label: label,index (or the label alone)
  trainingSet.csv, validationSet.csv  one row per clip: label/clip.mp4,label,votes for,votes against
Without the lists, all clips in the folders are used, and the names of the folders are the labels.
Request the archive at http://moments.csail.mit.edu and give the folder that it is in."""

SPLITS = {
    "train": ("trainingSet.csv", "training"),
    "validation": ("validationSet.csv", "validation"),
}
# The paper holds out 1% of the training clips for validation (section VI).
HELD_OUT, HOLD_OUT_SEED = 0.01, 1


def find_root(folder: str) -> epath.Path:
    """Returns where the archive is: a folder that contains training/, or a zip file.

    It is the given folder, or the only such folder in it or, without one, the only zip file in it.

    Raises:
      DataError: if there is none, or if there are several.
    """
    root = epath.Path(folder)
    if (root / "training").is_dir():
        return root
    entries = list(root.iterdir())
    inner = [path for path in entries if (path / "training").is_dir()]
    found = inner or [path for path in entries if contents.is_zip(path) and path.is_file()]
    if len(found) != 1:
        several = f"holds {len(found)} archives, give one of them" if found else "has no training/"
        raise DataError(f"{root} {several}.\n{LAYOUT}")
    return found[0]


def read_labels(root: epath.Path) -> list[str]:
    """Returns the labels in the archive's order: as in moments_categories.txt, else by name.

    The rows of moments_categories.txt are label,index, or all of them are a label alone, whose
    index is then the number of its row.

    Raises:
      DataError: if another row is not label,index, or repeats one of them.
    """
    inside = contents.of(root)
    rows = _rows(root, "moments_categories.txt")
    if rows is None:
        return sorted(listing.printable(name) for name in inside.subfolders("training"))
    if all(len(row) == 1 for row in rows):
        rows = [[row[0], str(index)] for index, row in enumerate(rows)]
    by_index: dict[int, str] = {}
    for number, row in enumerate(rows, start=1):
        name, index = (listing.printable(row[0]), row[1].strip()) if len(row) > 1 else ("", "")
        if not index.isdecimal() or int(index) in by_index or name in by_index.values():
            path = root / "moments_categories.txt"
            raise DataError(f"{path}, row {number}: {row} is not label,index, both of them new.")
        by_index[int(index)] = name
    return [by_index[index] for index in sorted(by_index)]


def labels(root: epath.Path, is_subset: bool) -> list[str]:
    """Returns the labels of the clips, or of those in the subset, in the archive's order.

    Raises:
      DataError: if there are too few clips for the subset; or as `read_labels`.
    """
    names = read_labels(root)
    if is_subset:
        chosen = subset.choose_labels(_list_both(root), str(root))
        names = [name for name in names if name in chosen]
    return names


def splits(
    root: epath.Path, kind: str, is_subset: bool = False
) -> dict[str, Callable[[], Sequence[Item]]]:
    """Returns a function for each split that lists its clips.

    Args:
      root: the archive.
      kind: "archive" for the archive's own validation clips, or "paper" for 1% of the training
        clips, selected by a hash of each clip's id, so that added clips move none to the other
        split.
      is_subset: whether to list the clips of `subset` alone.

    Raises:
      DataError: if the kind is another one.
    """
    list_own = functools.partial(_list_subset if is_subset else list_clips, root)
    if kind == "archive":
        return {split: functools.partial(list_own, split) for split in SPLITS}
    if kind == "paper":
        return {split: functools.partial(_list_paper, list_own, root, split) for split in SPLITS}
    raise DataError(f"split={kind!r} is unknown: use archive or paper.")


def list_clips(root: epath.Path, split: str) -> list[Item]:
    """Lists the clips of the archive's own split: those of its list or, without one, of its folder.

    A bad row (an unknown label, a path that leads out of the archive, a repeated clip, too few
    columns) is listed with the reason for skipping it.

    Raises:
      DataError: if there are no clips at all.
    """
    list_name, folder = SPLITS[split]
    inside = contents.of(root)
    if not inside.has(folder):
        raise DataError(
            f"{root / folder} is missing; without a validation folder, use "
            f"--config=64x64_30f_paper_split.\n{LAYOUT}"
        )
    known = set(read_labels(root))
    rows = _rows(root, list_name)
    if rows is not None:
        items = [_from_row(inside, folder, row, known) for row in rows]
    else:
        items = list(_from_folder(inside, folder, known))
    if not items:
        raise DataError(
            f"{root / folder} holds no clips, or its list {list_name} is empty.\n{LAYOUT}"
        )
    return listing.in_order(items)


def _list_subset(root: epath.Path, split: str) -> list[Item]:
    listed = _list_both(root)
    return subset.choose_clips(listed[split], split, subset.choose_labels(listed, str(root)))


def _list_both(root: epath.Path) -> dict[str, list[Item]]:
    return {split: list_clips(root, split) for split in SPLITS}


def _list_paper(list_own: Callable[[str], list[Item]], root: epath.Path, split: str) -> list[Item]:
    items = [
        item
        for item in list_own("train")
        if (listing.position(item.id, HOLD_OUT_SEED) < HELD_OUT) == (split == "validation")
    ]
    if not items:
        raise DataError(
            f"{root}/training has so few clips that 1% of them is none: no {split} split. Use the "
            "archive's own (--config=64x64_30f)."
        )
    return items


def _from_row(inside: contents.Contents, folder: str, row: list[str], labels: set[str]) -> Item:
    filename, label = row[0], listing.printable(row[1]) if len(row) > 1 else ""
    path = PurePosixPath(filename)
    reason = ""
    if len(row) < 2:
        reason = "its row has fewer than 2 columns"
    elif path.is_absolute() or ".." in path.parts:
        reason = "its path leads out of the archive"
    elif label not in labels:
        reason = f"unknown label {label!r}"
    return inside.item(folder, filename, label, reason)


def _from_folder(inside: contents.Contents, folder: str, labels: set[str]) -> Iterator[Item]:
    tree = inside.tree(folder)
    for file in listing.without_repeats(tree.files):
        if file.suffix in CLIP_SUFFIXES:
            label = PurePosixPath(listing.printable(file.name)).parts[0]
            yield file.item(label, "" if label in labels else f"unknown label {label!r}")
    for name, reason in tree.ignored:
        if reason != listing.HIDDEN:
            yield inside.item(folder, name, "", reason)


def _rows(root: epath.Path, name: str) -> list[list[str]] | None:
    """Returns the rows of a CSV file of the archive without blank lines, or None without the file.

    Names may contain any bytes.

    Raises:
      DataError: if a quote is not closed, so that the rest of the file is one field.
    """
    content = contents.of(root).read(name)
    if content is None:
        return None
    text = content.decode("utf-8-sig", "surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return [row for row in reader if row]
    except csv.Error as error:
        path = root / name
        raise DataError(f"{path}, line {reader.line_num}: no CSV ({error}); fix it.") from error
