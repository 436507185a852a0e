"""The split of a dataset that a finished run is measured on."""

from typing import Any

from absl import logging

from flowvid.data import datasets
from flowvid.parallel import processes


def choose_split(
    name: str, options: dict[str, Any], asked: str | None, checkpoint: str, own: bool
) -> str:
    """Returns the split to measure on; warns if the checkpoint was chosen on that split.

    Args:
        name: of the dataset.
        options: the other arguments of `datasets.load`, as `datasets.options_of` returns them.
        asked: the split that the user asks for. None is validation, or test for the best
            checkpoint if there is such a split.
        checkpoint: as for `flowvid.load`.
        own: whether the dataset is the run's own.
    """
    split = asked
    if split is None:
        on_test = checkpoint == "best" and datasets.has_split(name, "test", **options)
        split = "test" if on_test else "validation"
    if checkpoint == "best" and split == "validation" and own and processes.is_first():
        logging.warning(
            "--checkpoint=best was chosen on the same split, validation, so its numbers are too "
            "good on average: use --checkpoint=last, or a dataset with a test split."
        )
    return split
