"""The split of a dataset that a finished run is measured on."""

import functools

from absl import logging

from flowvid.data import datasets
from flowvid.parallel import processes


def choose_split(load: functools.partial, asked: str | None, checkpoint: str, own: bool) -> str:
    """Returns the split to measure on; warns if the checkpoint was chosen on that split.

    Args:
        load: `datasets.load` with the arguments but the split.
        asked: the split that the user asks for. None is validation, or test for the best
            checkpoint if there is such a split.
        checkpoint: as for `flowvid.load`.
        own: whether the dataset is the run's own.
    """
    split = asked
    if split is None:
        (name,) = load.args
        on_test = checkpoint == "best" and datasets.has_split(name, "test", **load.keywords)
        split = "test" if on_test else "validation"
    if checkpoint == "best" and split == "validation" and own and processes.is_first():
        logging.warning(
            "--checkpoint=best was chosen on the same split, validation, so its numbers are too "
            "good on average: use --checkpoint=last, or a dataset with a test split."
        )
    return split
