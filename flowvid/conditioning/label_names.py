"""Labels by their names: which index a label has, and the labels of unlabelled samples."""

from collections.abc import Sequence

from flowvid.errors import DataError, nearest_first


def label_index(label_names: Sequence[str], label: str) -> int:
    """Returns the index of a label.

    Raises:
        DataError: for an unknown label, listing the nearest known ones.
    """
    if label not in label_names:
        nearest = nearest_first(label, label_names)[:5]
        raise DataError(
            f"Unknown label {label!r}; the nearest of {len(label_names)}: {', '.join(nearest)}."
        )
    return label_names.index(label)


def in_turn(label_names: Sequence[str], count: int) -> list[str]:
    """Returns `count` labels, all known ones in turn."""
    return [label_names[i % len(label_names)] for i in range(count)]
