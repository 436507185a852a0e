"""Fixtures that make the loss of chosen examples NaN.

A test file uses them by `pytest_plugins = ["system_fixtures", "poisoning"]`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from flowvid.data import datasets
from flowvid.training import objectives

# Of `tiny`: with 4 examples per step, step s holds the positions 4 (s - 1) to 4 s - 1.
EIGHT_STEPS = {"variant": "prev_frame", "num_steps": 8, "checkpoint_every": 2, "eval_every": 100}
POISONED = {"head": 101, "tail": 102}  # labels, which prev_frame does not look at


def _poisoned_loss(name: str, honest: Callable[..., Any]) -> Callable[..., Any]:
    def loss(config: Any, params: Any, batch: Any, step: Any) -> Any:
        value, logs = honest(config, params, batch, step)
        value = value * jnp.where((batch.label == POISONED[name]).any(), jnp.nan, 1.0)
        return value, logs | {"bits_per_dim": value}

    return loss


# The same functions for every file, so that files share the compiled steps, too.
_LOSSES = {name: _poisoned_loss(name, loss) for name, loss in objectives.LOSSES.items()}


@pytest.fixture(scope="module")
def poisoned(compiled_once: None) -> Iterator[dict[int, int]]:
    """The labels of poisoned examples, by their positions in the data.

    A loss is NaN where it sees such a label, so that all tests share the compiled steps.
    """
    marked: dict[int, int] = {}
    honest_batches = datasets.train_batches

    def batches(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for batch in honest_batches(*args, **kwargs):
            pairs = zip(batch["index"], batch["label"], strict=True)
            label = [marked.get(index, honest) for index, honest in pairs]
            yield batch | {"label": np.array(label, np.int32)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "train_batches", batches)
        for name, loss in _LOSSES.items():
            patch.setitem(objectives.LOSSES, name, loss)
        yield marked


@pytest.fixture
def poison(poisoned: dict[int, int]) -> Iterator[Callable[..., None]]:
    """A function that poisons a model's loss on the examples at given positions in the data."""

    def poison(positions: Iterable[int], name: str = "tail") -> None:
        poisoned.update(dict.fromkeys(positions, POISONED[name]))

    yield poison
    poisoned.clear()
