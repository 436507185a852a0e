"""A trained GAN: restored from the folder of a run, for sampling."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from flowvid import paths, random_keys
from flowvid.arrays import Params
from flowvid.conditioning.label_names import in_turn, label_index
from flowvid.errors import ConfigError, whole_number
from flowvid.gan import config as gan_config
from flowvid.gan import model, steps
from flowvid.gan.config import GanConfig
from flowvid.training.checkpoints import reading

Videos = UInt8[np.ndarray, "videos frames height width 3"]


def sample(config: GanConfig, params: Params, labels: Any, seed: int = 0) -> Videos:
    """Generates one video per label; video i depends on (seed, i) alone."""
    keys = random_keys.video_keys(seed, len(labels))
    return np.asarray(_sample(config, params, keys, np.asarray(labels, np.int32)))


@functools.partial(jax.jit, static_argnames="config")
def _sample(config: GanConfig, params: Params, keys: Any, labels: Any) -> Any:
    return model.to_pixels(model.generate(config, params, keys, labels))


@dataclasses.dataclass(frozen=True)
class Gan:
    """The generator of a run, with its configuration and the names of its labels."""

    config: GanConfig
    label_names: tuple[str, ...]
    params: Params  # of the generator; its moving average if the run keeps one
    step: int

    def sample(self, num_videos: int, label: str | None = None, *, seed: int = 0) -> Videos:
        """Generates videos, of one label or of each label in turn.

        Args:
            num_videos: number of videos.
            label: label of all videos, for a GAN trained with --labels; None for each in turn.
            seed: below 2^32; video i depends on (seed, i) alone.

        Raises:
            DataError: for an unknown label, listing the nearest known ones.
            ConfigError: for a label if the GAN is not conditioned on labels, and for numbers that
                are not whole or out of range.
        """
        num_videos = whole_number("num_videos", num_videos, 1)
        seed = whole_number("seed", seed, 0, random_keys.MAX_SEED)
        if label is not None and not self.config.labels:
            raise ConfigError("this GAN is not conditioned on labels: remove --label.")
        names = self.turns(num_videos) if label is None else [label] * num_videos
        labels = [label_index(self.label_names, name) for name in names]
        return sample(self.config, self.params, labels, seed)

    def turns(self, num_videos: int) -> list[str]:
        """Returns the labels of `num_videos` videos that are sampled without a given label."""
        return in_turn(self.label_names, num_videos)


def load(workdir: str | pathlib.Path, *, checkpoint: str = "last") -> Gan:
    """Loads the GAN of a run.

    Args:
        workdir: folder of the run.
        checkpoint: "last", or the number of a step.

    Raises:
        ConfigError: if the workdir holds no run of the GAN, or no such checkpoint.
        TrainingError: if there are checkpoints, but none can be read.
    """
    workdir = paths.expand(workdir)
    config, names = gan_config.read(workdir)
    template = {"generator": steps.template(config).generator.params}
    params, step = reading.restore_params(
        workdir, template, checkpoint=checkpoint, average=config.ema_decay > 0
    )
    return Gan(config, names, jax.tree.map(np.asarray, params["generator"]), step)
