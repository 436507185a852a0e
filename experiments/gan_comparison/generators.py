"""Runs of flows and GANs as generators of clips, and which of them are seeds of one another."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import flowvid
from experiments.running import configurations
from experiments.running.finished_runs import Videos
from flowvid import paths
from flowvid.config import config_file
from flowvid.errors import ConfigError
from flowvid.gan import config as gan_config
from flowvid.gan import trained
from flowvid.gan.trained import Gan
from flowvid.video.model import Model


class Generated(NamedTuple):
    """Clips of one run."""

    kind: str  # what the run has in common with its other seeds
    clips: Videos
    labels: list[str] | None  # of which label each clip was to be


def is_gan(workdir: str | pathlib.Path) -> bool:
    """Returns whether a folder holds a run of the GAN, not of the flow.

    Raises:
        ConfigError: when it holds no run at all.
    """
    path = paths.expand(workdir) / "config.json"
    try:
        return "objective" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{workdir} holds no run: {error}. Train one first.") from error


def settings_of(workdir: str | pathlib.Path) -> Any:
    """Returns the configuration of a run, a `Config` or a `GanConfig`.

    Raises:
        ConfigError: when the folder holds no run.
    """
    return (gan_config if is_gan(workdir) else config_file).read(paths.expand(workdir))[0]


def load(workdir: str | pathlib.Path) -> Model | Gan:
    """Returns the trained model of a run.

    Raises:
        ConfigError: when the folder holds no run or no checkpoint.
    """
    return trained.load(workdir) if is_gan(workdir) else flowvid.load(workdir)


def kinds(workdirs: Sequence[pathlib.Path], models: Sequence[Model | Gan]) -> list[str]:
    """Returns the kind of each run; runs of one kind differ in nothing but the seed.

    A kind is called "flow, VARIANT" or "GAN, OBJECTIVE". Where runs of that name differ in other
    fields, or in the step of their checkpoints, the values of these fields follow in brackets.

    Raises:
        ConfigError: when two runs of a kind have the same seed, so that they are the same run.
    """
    names = [
        f"GAN, {model.config.objective}"
        if isinstance(model, Gan)
        else f"flow, {model.config.variant}"
        for model in models
    ]
    fields = [
        configurations.fields_of_model(model.config) | {"step": model.step} for model in models
    ]
    seeds = [of_run.pop("seed") for of_run in fields]
    found, first_of = [], dict[tuple[str, int], pathlib.Path]()
    for workdir, name, of_run, seed in zip(workdirs, names, fields, seeds, strict=True):
        others = [f for other, f in zip(names, fields, strict=True) if other == name]
        differing = {field for f in others for field in configurations.differences(of_run, f)}
        if differing:
            values = ", ".join(f"{field} {of_run[field]}" for field in sorted(differing))
            name = f"{name} ({values})"
        if (name, seed) in first_of:
            raise ConfigError(
                f"{first_of[name, seed]} and {workdir} are the same run: both have the "
                f"configuration of {name!r} and seed {seed}. Give one of them."
            )
        first_of[name, seed] = workdir
        found.append(name)
    return found


def generate(
    workdir: pathlib.Path,
    model: Model | Gan,
    kind: str,
    *,
    num_videos: int,
    num_frames: int,
    temperatures: Sequence[float],
    seed: int,
) -> list[Generated]:
    """Returns a run's clips; those of a flow at each temperature.

    Args:
        workdir: the run's, for messages.
        model: the run's.
        kind: from `kinds`.
        num_videos: to generate; non-finite samples of a flow are left out.
        num_frames: of each clip; those of a GAN are cut.
        temperatures: of a flow.
        seed: of the samples.

    Raises:
        ConfigError: when fewer than 2 samples are finite.
    """
    if isinstance(model, Gan):
        labels = model.turns(num_videos) if model.config.labels else None
        clips = model.sample(num_videos, seed=seed)[:, :num_frames]
        return [Generated(kind, clips, labels)]
    found = []
    for temperature in temperatures:
        samples = model.sample(
            num_videos, num_frames=num_frames, temperature=temperature, seed=seed
        )
        clips, finite = map(np.asarray, samples)
        if finite.sum() < 2:
            raise ConfigError(f"{workdir}: fewer than 2 of {num_videos} samples are finite.")
        labels = None
        if model.config.ablation.uses_labels:
            turns = model.turns(num_videos)
            labels = [name for name, kept in zip(turns, finite, strict=True) if kept]
        found.append(Generated(f"{kind}, temperature {temperature:g}", clips[finite], labels))
    return found
