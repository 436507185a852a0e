"""Counts the files of a folder by their endings: which are used, skipped and ignored, and why."""

import collections
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from data_builders.video_folder.folder import Listing


class _Kind(NamedTuple):
    """Files of one ending that are treated alike, in the order in which they are shown."""

    order: int
    ending: str
    treatment: str


def describe(listing: Listing) -> str:
    """Returns a table of the files in a folder, made from their names alone.

    A row states the number of files or folders of an ending, whether they are used, skipped (and
    reported beside the records) or ignored, and why, with an example. Whether a used file can be
    read shows when it is decoded.
    """
    counts: collections.Counter[_Kind] = collections.Counter()
    example: dict[_Kind, str] = {}
    for kind, name in _kinds(listing):
        counts[kind] += 1
        example.setdefault(kind, name)
    rows = []
    for kind in sorted(counts):
        more = f" and {counts[kind] - 1} more" if counts[kind] > 1 else ""
        names = f" ({example[kind]}{more})" if kind.order else ""
        rows.append(f"  {kind.ending:10} {counts[kind]:>8}  {kind.treatment}{names}")
    return "\n".join(rows)


def _kinds(listing: Listing) -> Iterator[tuple[_Kind, str]]:
    """Yields the kind of each file and ignored folder, with its name."""
    for items in listing.splits.values():
        for item in sorted(items):
            treatment = f"skipped: {item.reason}" if item.reason else "used"
            yield _Kind(int(bool(item.reason)), _ending(item.id), treatment), item.id
    for name, reason in listing.ignored:
        yield _Kind(2, _ending(name), f"ignored: {reason}"), name


def _ending(name: str) -> str:
    if name.endswith("/"):
        return "folder"
    return PurePosixPath(name).suffix.lower() or "no ending"
