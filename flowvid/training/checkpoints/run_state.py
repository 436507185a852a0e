"""What a checkpoint of a run holds."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from flowvid.training.train_state import ModelState


class RunState(NamedTuple):
    """Everything that a run needs to go on as if it had never stopped; counts are scalar int64."""

    head: ModelState
    tail: ModelState | None  # None in a run of the head alone
    step: np.ndarray  # steps done
    examples: np.ndarray  # read, over all hosts; the data position
    restore_step: np.ndarray  # of the checkpoint to go back to when steps are not finite
    restores: np.ndarray  # since that checkpoint was saved
    validated_step: np.ndarray  # of the last validation; -1 before any
    best_step: np.ndarray  # of the best validation; -1 before any
    best_bits_per_dim: np.ndarray  # scalar float64: of that validation, over all frames


def is_restore_point(run: RunState) -> bool:
    """Whether a run may go back to this checkpoint: its last step was finite, and it was due.

    One that a signal has saved is none: a run that was never stopped does not have it, and both
    must end in the same parameters.
    """
    return int(run.restore_step) == int(run.step)


@runtime_checkable
class Saved(Protocol):
    """What a checkpoint holds, a tree of arrays."""

    @property
    def step(self) -> Any:
        """Steps done."""

    @property
    def best_step(self) -> Any:
        """The step of another checkpoint to keep; -1: none."""

    @property
    def restore_step(self) -> Any:
        """The step of one more; -1: none."""
