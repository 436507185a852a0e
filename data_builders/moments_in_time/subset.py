"""A fixed subset of the size of Moments in Time Mini, chosen by the annotation alone.

Of the labels with at least 500 training and 50 validation clips, it has the 200 with the most
training clips; of each, the 500 training and 50 validation clips whose ids come first in the order
of `listing.in_order`, which is that of the SHA-256 of "0/" and the id.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Final

from data_builders.listing import Item
from flowvid.errors import DataError

NUM_LABELS: Final = 200
NUM_CLIPS: Final = {"train": 500, "validation": 50}  # per label


def choose_labels(listed: Mapping[str, Sequence[Item]], name: str) -> set[str]:
    """Returns the labels of the subset.

    Args:
      listed: the clips of each split; those with a reason to skip them do not count.
      name: of the archive, for the error.

    Raises:
      DataError: if too few labels have enough clips.
    """
    counts = {
        split: collections.Counter(item.label for item in items if not item.reason)
        for split, items in listed.items()
    }
    of_train = counts["train"]
    enough = [
        label
        for label in of_train
        if all(counts[split][label] >= number for split, number in NUM_CLIPS.items())
    ]
    if len(enough) < NUM_LABELS:
        wanted = " and ".join(f"{number} {split}" for split, number in NUM_CLIPS.items())
        raise DataError(
            f"{name} has {len(enough)} labels with at least {wanted} clips, but the subset needs "
            f"{NUM_LABELS}. Use a config without a subset, such as --config=64x64_30f."
        )
    return set(sorted(enough, key=lambda label: (-of_train[label], label))[:NUM_LABELS])


def choose_clips(items: Sequence[Item], split: str, labels: set[str]) -> list[Item]:
    """Returns the clips of the subset.

    Args:
      items: the clips of a split, as `listing.in_order` returns them.
      split: its name.
      labels: as `choose_labels` returns them.
    """
    counts: collections.Counter[str] = collections.Counter()
    chosen = []
    for item in items:
        if not item.reason and item.label in labels and counts[item.label] < NUM_CLIPS[split]:
            counts[item.label] += 1
            chosen.append(item)
    return chosen
