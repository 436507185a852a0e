"""What the tests of the system share: a tiny configuration, and when two trees are the same."""

import jax
import numpy as np

NUM_CLIPS = {"train": 12, "validation": 5}
TINY = {
    "preset": "small",
    "levels": 2,
    "head_steps": 1,
    "tail_steps": 1,
    "width": 8,
    "state_size": 4,
    "image_size": 16,  # of 32, averaged down
    "num_frames": 5,
    "batch_size": 4,
    "tail_frames": 2,
    "num_steps": 4,
    "learning_rate": 0.01,
    "warmup_steps": 0,
    "schedule": "constant",
    "eval_every": 2,
    "checkpoint_every": 2,
    "log_every": 1,
}
DIMS = 16 * 16 * 3  # of a frame


def assert_same(tree: object, other: object) -> None:
    """Both trees have the same structure, types and bits."""
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_array_equal(a, b)
