"""A trained GAN, as a user meets it: restored from a run's folder, sampled from."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from flowvid import random_keys
from flowvid.arrays import Params
from flowvid.conditioning.label_names import label_index
from flowvid.errors import ConfigError
from flowvid.gan import config as gan_config
from flowvid.gan import model, steps
from flowvid.gan.config import GanConfig
from flowvid.training.checkpoints import reading

Videos = UInt8[np.ndarray, "videos frames height width 3"]


def sample(config: GanConfig, params: Params, labels: Any, seed: int = 0) -> Videos:
    """Videos of the generator, one a label; video i depends on (seed, i) alone."""
    keys = random_keys.video_keys(seed, len(labels))
    return np.asarray(_sample(config, params, keys, np.asarray(labels, np.int32)))


@functools.partial(jax.jit, static_argnames="config")
def _sample(config: GanConfig, params: Params, keys: Any, labels: Any) -> Any:
    return model.to_pixels(model.generate(config, params, keys, labels))


@dataclasses.dataclass(frozen=True)
class Gan:
    """The generator of a run, with what is needed to use it."""

    config: GanConfig
    label_names: tuple[str, ...]
    params: Params  # of the generator; its moving average where the run has one
    step: int

    def sample(self, num_videos: int, label: str | None = None, *, seed: int = 0) -> Videos:
        """Generates videos; the labels take turns where none is given.

        Args:
            num_videos: how many.
            label: for a GAN trained with --labels.
            seed: video i depends on (seed, i) alone.

        Raises:
            DataError: for an unknown label, listing the nearest known ones.
            ConfigError: for a label where the GAN has none.
        """
        if label is not None and not self.config.labels:
            raise ConfigError("this GAN is not conditioned on labels: leave out --label.")
        names = self.turns(num_videos) if label is None else [label] * num_videos
        labels = [label_index(self.label_names, name) for name in names]
        return sample(self.config, self.params, labels, seed)

    def turns(self, num_videos: int) -> list[str]:
        """The labels of `num_videos` videos sampled without one given: all of them in turn."""
        return [self.label_names[i % len(self.label_names)] for i in range(num_videos)]


def load(workdir: pathlib.Path, *, checkpoint: str = "last") -> Gan:
    """The GAN of a run.

    Args:
        workdir: the run's.
        checkpoint: "last", or the number of its step.

    Raises:
        ConfigError: when it holds no run of the GAN, or no such checkpoint.
        TrainingError: when there are checkpoints, but none can be read.
    """
    config, names = gan_config.read(workdir)
    template = {"generator": steps.template(config).generator.params}
    params, step = reading.restore_params(
        workdir, template, checkpoint=checkpoint, average=config.ema_decay > 0
    )
    return Gan(config, names, jax.tree.map(np.asarray, params["generator"]), step)
