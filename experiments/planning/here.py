"""What this machine can do, measured in processes of their own."""

import os
from typing import Any

from experiments.measuring.fresh_process import call
from experiments.planning import cards

_BATCHES = 60  # of the loader
_ROUNDS = 5


def core() -> cards.Card:
    """Returns one core of this machine, with its rates and the machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rates = call("rates.measured", {"rounds": _ROUNDS}, cores=1)
    return cards.of_this_core(rates, 1e-9 * memory)


def loader_bytes_per_second(changes: dict[str, Any]) -> float:
    """Returns the decoded bytes per second that the loader delivers of generated clips.

    Args:
        changes: the configuration, as in `experiments.measuring.costs`; its dataset is replaced by
            moving_shapes, which is prepared first if necessary.
    """
    from experiments.measuring import costs

    changes = changes | {"dataset": "moving_shapes"}
    measured = call("costs.loader", {"changes": changes, "num_batches": _BATCHES})
    config = costs.config_of(changes)
    pixels = config.image_size.height * config.image_size.width
    return float(measured["videos_per_s"] * config.num_frames * pixels * 3)
