"""Reads the Moments in Time archive as it is unpacked: its lists, its labels and its clips."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from flowvid.errors import ClipError
from flowvid.media import read_clip

LAYOUT = """\
Expected in the folder given as --manual_dir, as the archive unpacks:
  moments_categories.txt               one row a label: label,index
  trainingSet.csv, validationSet.csv   one row a clip: label/clip.mp4,label,votes for,votes against
  training/<label>/*.mp4, validation/<label>/*.mp4
Ask for the archive at http://moments.csail.mit.edu, unpack it and give its folder."""

SPLITS = {
    "train": ("trainingSet.csv", "training"),
    "validation": ("validationSet.csv", "validation"),
}


class ArchiveError(ValueError):
    """The archive is not as expected; the message says what is wrong and what is expected."""


class Clip(NamedTuple):
    """A row of a list: `filename` is relative to the split's folder, and names the clip."""

    filename: str
    label: str
    path: Path


def read_labels(root: Path) -> list[str]:
    """The labels of moments_categories.txt, in the order of their indices.

    Raises:
      ArchiveError: the file is missing, or its indices are not 0, 1, 2, ...
    """
    rows = _read_rows(root / "moments_categories.txt")
    by_index = {index: label for label, index in (row[:2] for row in rows)}
    missing = [str(index) for index in range(len(rows)) if str(index) not in by_index]
    if missing:
        raise ArchiveError(
            f"{root}/moments_categories.txt has {len(rows)} labels, but none with index "
            f"{missing[0]}; number them from 0 on.\n{LAYOUT}"
        )
    return [by_index[str(index)] for index in range(len(rows))]


def list_clips(root: Path, split: str) -> list[Clip]:
    """The clips that the archive lists for a split, in its order.

    Raises:
      ArchiveError: the list or the folder of clips is missing, or a listed label is unknown.
    """
    list_name, folder_name = SPLITS[split]
    folder = root / folder_name
    if not any(folder.glob("*/*")):
        raise ArchiveError(f"{folder} is missing or holds no clips.\n{LAYOUT}")
    rows = _read_rows(root / list_name)
    clips = [Clip(filename, label, folder / filename) for filename, label, *_ in rows]
    unknown = {clip.label for clip in clips}.difference(read_labels(root))
    if unknown:
        raise ArchiveError(
            f"{root / list_name} uses labels that moments_categories.txt does not list: "
            f"{', '.join(sorted(unknown))}; add them there.\n{LAYOUT}"
        )
    return clips


def decode(
    clip: Clip, num_frames: int, image_size: int
) -> UInt8[np.ndarray, "time size size 3"] | str:
    """The clip's first frames or, if it cannot be used, the reason."""
    try:
        return read_clip(clip.path, num_frames, image_size)
    except ClipError as error:
        return str(error)


def _read_rows(path: Path) -> list[list[str]]:
    """The rows of a CSV file, blank lines left out; all have at least two columns."""
    if not path.is_file():
        raise ArchiveError(f"{path} is missing.\n{LAYOUT}")
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    for number, row in enumerate(rows, start=1):
        if len(row) < 2:
            raise ArchiveError(f"{path}, row {number}: {row} has fewer than 2 columns.\n{LAYOUT}")
    return rows
