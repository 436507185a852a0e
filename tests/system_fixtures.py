"""Fixtures of the system tests: a small dataset, and runs that are trained once per session.

A test file uses them by `pytest_plugins = ["system_fixtures"]`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import NUM_CLIPS, TINY

from data_builders.generated_builder import GeneratedConfig
from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from flowvid.config import making, presets
from flowvid.config.schema import Config
from flowvid.evaluation import scoring
from flowvid.training import loop, objectives, stability, trainer


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS folder with a few clips of moving_shapes at 32x32."""
    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving_shapes.Builder, "NUM_CLIPS", NUM_CLIPS)
        moving_shapes.Builder(data_dir=folder, config="32x32_30f").download_and_prepare()
    return folder


@pytest.fixture(scope="session")
def image_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the records of a few single images: clips of one frame, at 32x32."""
    folder = tmp_path_factory.mktemp("images")
    config = GeneratedConfig(name="32x32_1f", image_size=32, num_frames=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving_shapes.Builder, "NUM_CLIPS", NUM_CLIPS)
        moving_shapes.Builder(data_dir=folder, config=config).download_and_prepare()
    return folder / "moving_shapes"


@pytest.fixture(scope="session")
def tiny(data_dir: Path) -> Callable[..., Config]:
    """A function that returns the tiny configuration, with changes."""
    return lambda **changes: making.preset_config(**TINY | {"data_dir": str(data_dir)} | changes)


# What tracing and compilation make of a configuration, for all files of a worker that share it.
_ONCE = {
    "train_steps": (trainer, trainer.train_steps),
    "initial_state": (loop, loop.initial_state),
    "state_template": (loop, loop.state_template),
}
_MADE: dict[Any, Any] = {}


@contextlib.contextmanager
def sharing() -> Iterator[None]:
    """Runs whose configurations differ only in resumable fields share their compiled steps.

    They must have the same losses, which tests change, and the same data: a fingerprint of them is
    part of the configuration.
    """
    same = {name: presets.PRESETS["paper_small"][name] for name in presets.RESUMABLE}

    def of_any_length(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda config, *args: function(dataclasses.replace(config, **same), *args)

    def once(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def cached(config: Config, *args: Any) -> Any:
            assert config.schedule == "constant"
            key = (name, dataclasses.replace(config, **same), *objectives.LOSSES.values())
            if key not in _MADE:
                _MADE[key] = function(config, *args)
            return _MADE[key]

        return cached

    with pytest.MonkeyPatch.context() as patch:
        for name, (module, function) in _ONCE.items():
            patch.setattr(module, name, once(name, function))
        for name in ("evaluator", "label_evaluator"):
            patch.setattr(scoring, name, of_any_length(getattr(scoring, name)))
        for name, round_trip in stability._ROUND_TRIPS.items():
            patch.setitem(stability._ROUND_TRIPS, name, of_any_length(round_trip))
        yield


@pytest.fixture(scope="module")
def compiled_once() -> Iterator[None]:
    """For files with many short runs, which share their compiled steps with those of other files.

    Tracing takes most of a run's time. Only with a constant learning rate, since a schedule knows
    the number of steps.
    """
    with sharing():
        yield


@pytest.fixture(scope="session")
def run_of(
    tiny: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A function that trains a variant once, and returns its workdir."""
    workdirs: dict[str, Path] = {}

    def run(variant: str) -> Path:
        if variant not in workdirs:
            workdir = tmp_path_factory.mktemp(variant)
            with sharing():
                loop.train(tiny(variant=variant), workdir)
            workdirs[variant] = workdir
        return workdirs[variant]

    return run
