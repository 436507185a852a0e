"""Folders that define the splits of a dataset, such as train/ and val/, at any depth."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from data_builders import listing
from data_builders.listing import File, Ignored
from flowvid.errors import DataError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
    "testing": TEST,
}
_EVALUATION = {"eval", "evaluation"}  # for validation or, where another folder is, for testing
_BESIDE = "beside the folders train/, validation/ and test/"

Parts = tuple[str, ...]  # of a path
Named = list[tuple[Parts, File]]  # files with the parts of their names, from the label on


def parts_of(name: str) -> Parts:
    """Returns the parts of a path, printable."""
    return PurePosixPath(listing.printable(name)).parts


def divide(
    path: Path, found: Sequence[File], folders: Iterable[str], ignored: Sequence[Ignored]
) -> tuple[dict[str, Named], list[Ignored]]:
    """Divides files by the outermost folder around each that is called like a split.

    If there are no such folders, or those for training alone, all files are of "train".

    Args:
      path: the folder or zip file, for error messages.
      found: the files to divide.
      folders: the names of the folders, empty ones and those that are left out included.
      ignored: what is left out, which error messages name.

    Returns:
      The files of each split, and those that are in none of these folders. The names of the files
      lack the folder of their split and, as in zip files, folders around everything.

    Raises:
      DataError: if a split has a folder but nothing to use, if no folder for training is beside
        one for another split, or if a file is in the folders of two splits. Nothing that was meant
        for another split is trained on.
    """
    named = [(parts_of(file.name), file) for file in found]
    inner = {
        parts[:end]
        for parts in itertools.chain(map(parts_of, folders), (parts[:-1] for parts, _ in named))
        for end in range(1, len(parts) + 1)
    }
    split_named = _split_names(parts[-1].lower() for parts in inner)

    def place(parts: Parts) -> int | None:
        """Returns the index of the outermost folder that is called like a split."""
        return next((i for i, part in enumerate(parts) if part.lower() in split_named), None)

    split_of = {
        parts: split_named[parts[-1].lower()]
        for parts in sorted(inner)
        if place(parts) == len(parts) - 1
    }
    present = set(split_of.values())
    divided: dict[str, Named] = {s: [] for s in (TRAIN, VALIDATION, TEST) if s in present}
    beside, around = [], []
    for parts, file in named:
        index = place(parts[:-1])
        if index is None:
            beside.append(Ignored(listing.printable(file.name), _BESIDE))
            continue
        split = split_of[parts[: index + 1]]
        for other in parts[index + 1 : -1]:
            if split_named.get(other.lower(), split) not in (split, TRAIN):
                raise DataError(
                    f"{'/'.join(parts)} in {path} is in the folders of two splits, {parts[index]}/ "
                    f"and {other}/: move it to one of them, or rename the folder that is a label."
                )
        divided[split].append((parts[:index] + parts[index + 1 :], file))
        around.append(parts[:index])
    if present <= {TRAIN}:
        return {TRAIN: _below_common(named)}, []
    _check_train(path, split_of)
    for folder, split in split_of.items():
        if not divided[split]:
            raise DataError(
                f"The folder {'/'.join(folder)}/ in {path} holds nothing that can be used for "
                f"{split}: {_why_empty(folder, ignored)}. Put clips or images there, or remove "
                "the folder."
            )
    depth = min(map(len, around))
    while len({parts[:depth] for parts in around}) > 1:
        depth -= 1
    return {
        split: [(parts[depth:], file) for parts, file in files] for split, files in divided.items()
    }, beside


def _split_names(folders: Iterable[str]) -> dict[str, str]:
    """Returns the splits by the names of their folders, given the names of all folders."""
    has_validation = any(_NAMES.get(name) == VALIDATION for name in folders)
    return _NAMES | dict.fromkeys(_EVALUATION, TEST if has_validation else VALIDATION)


def _below_common(named: Named) -> Named:
    """Returns files by their names below all folders that hold everything but one last folder."""
    depth = 0
    while len({parts[depth] for parts, _ in named}) == 1 and all(
        len(parts) >= depth + 3 for parts, _ in named
    ):
        depth += 1
    return [(parts[depth:], file) for parts, file in named]


def _check_train(path: Path, split_of: dict[Parts, str]) -> None:
    """Raises a DataError if no folder for training is beside that of another split."""
    trained = {parts[:-1] for parts, split in split_of.items() if split == TRAIN}
    others = [parts for parts, split in split_of.items() if split != TRAIN]
    if not any(parts[:-1] in trained for parts in others):
        name = "/".join(others[0])
        raise DataError(
            f"{path} holds the folder {name}/, but no folder train/ beside it, so that nothing is "
            f"left to train on: add train/, or give the folder {name}/ itself, or rename it if it "
            "is a label."
        )


def _why_empty(folder: Parts, ignored: Sequence[Ignored]) -> str:
    inside = [
        entry for entry in ignored if PurePosixPath(entry.name).parts[: len(folder)] == folder
    ]
    return listing.counted(inside) or "it is empty"
