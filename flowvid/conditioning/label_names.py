"""Labels by their names: their indices, how they are shown, and those of unlabelled samples."""

import collections
import unicodedata
from collections.abc import Sequence

from flowvid.errors import DataError, nearest_first


def label_index(label_names: Sequence[str], label: object) -> int:
    """Returns the index of a label, which may be given as it is shown or in another Unicode form.

    Raises:
        DataError: for an unknown label, listing the nearest known ones, if several look like it, or
            if it is not a text.
    """
    if not isinstance(label, str):
        raise DataError(f"label={label!r} is not a name: use one such as {label_names[0]!r}.")
    if label in label_names:
        return label_names.index(label)
    shown = as_shown(label_names)
    if label in shown:
        return shown.index(label)
    alike = [i for i, name in enumerate(label_names) if _look(name) == _look(label)]
    if len(alike) == 1:
        return alike[0]
    if alike:
        names = " or ".join(shown[index] for index in alike)
        raise DataError(f"Several labels look like {label!r}; use {names}.")
    nearest = ", ".join(nearest_first(label, shown)[:5])
    raise DataError(f"Unknown label {label!r}; the nearest of {len(label_names)}: {nearest}.")


def as_shown(label_names: Sequence[str]) -> list[str]:
    """Returns the labels as texts that can be told apart.

    Where several look alike, for example with composed and decomposed accents, their characters
    beyond ASCII are escaped.
    """
    looks = collections.Counter(_look(name) for name in set(label_names))
    return [
        name.encode("ascii", "backslashreplace").decode() if looks[_look(name)] > 1 else name
        for name in label_names
    ]


def _look(name: str) -> str:
    return unicodedata.normalize("NFKC", name)


def in_turn(label_names: Sequence[str], count: int) -> list[str]:
    """Returns `count` labels, all known ones in turn."""
    return [label_names[i % len(label_names)] for i in range(count)]
