"""What the tests of the system share: a small data set, a tiny configuration, trained runs.

A test file takes the fixtures by `pytest_plugins = ["helpers"]`.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from flowvid import config as config_lib
from flowvid import training
from flowvid.config import Config

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


def as_flags(**values: object) -> list[str]:
    """Fields of a configuration as a command line."""
    return [f"--{name}={value}" for name, value in values.items()]


def assert_same(tree: object, other: object) -> None:
    """Both trees have the same structure, types and bits."""
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JAX's compilation cache: runs of the same shape compile once, in all processes."""
    folder = tmp_path_factory.mktemp("xla")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS folder with a few clips of moving_shapes at 32x32."""
    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving_shapes.Builder, "NUM_CLIPS", NUM_CLIPS)
        moving_shapes.Builder(data_dir=folder, config="32x32_30f").download_and_prepare()
    return folder


@pytest.fixture(scope="session")
def tiny(data_dir: Path) -> Callable[..., Config]:
    """A function that makes the tiny configuration, with changes."""
    return lambda **changes: config_lib.preset_config(
        **TINY | {"data_dir": str(data_dir)} | changes
    )


@pytest.fixture(scope="session")
def run_of(
    tiny: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A function that trains a variant once, and returns its workdir."""
    workdirs: dict[str, Path] = {}

    def run(variant: str) -> Path:
        if variant not in workdirs:
            workdir = tmp_path_factory.mktemp(variant)
            training.train(tiny(variant=variant), workdir)
            workdirs[variant] = workdir
        return workdirs[variant]

    return run
