"""The state of a run, as its checkpoints hold it."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from flowvid.training.train_state import ModelState


class RunState(NamedTuple):
    """Everything that a run needs to resume as if it had never stopped; counts are scalar int64.

    The results of validations are not part of it: they are the metrics of the checkpoints, so that
    the best checkpoint is always one that exists.
    """

    head: ModelState
    tail: ModelState | None  # None in a run of the head alone
    step: np.ndarray  # steps taken, skipped ones included
    examples: np.ndarray  # examples read by all processes: the position in the data
    restore_step: np.ndarray  # step of the checkpoint to roll back to
    restores: np.ndarray  # rollbacks since that checkpoint was saved


def is_restore_point(run: RunState) -> bool:
    """Returns whether a run may roll back to this state.

    It may if the last step was finite and a checkpoint was due. A checkpoint that was saved because
    of a signal is no restore point: an uninterrupted run does not have it, and both must end with
    the same parameters.
    """
    return int(run.restore_step) == int(run.step)


@runtime_checkable
class Checkpointable(Protocol):
    """A tree of arrays that can be saved as a checkpoint."""

    @property
    def step(self) -> Any:
        """Steps taken: the name of the checkpoint."""
