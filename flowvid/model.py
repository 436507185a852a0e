"""A trained run as one object, for notebooks and for the entry points: `flowvid.load(workdir)`."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from flowvid import checkpoints, data, likelihood, sampling, steps, streams
from flowvid.bijectors.base import Params
from flowvid.config import Config
from flowvid.errors import ConfigError
from flowvid.glow import CHANNELS
from flowvid.sampling import Samples

Videos = UInt8[np.ndarray, "batch frames height width channels"]


def blank_batch(config: Config) -> steps.Batch:
    """One black video, for what depends on shapes alone; traced, it takes no memory."""
    shape = (1, config.num_frames, config.image_size, config.image_size, CHANNELS)
    zero = jnp.zeros(1, jnp.uint32)
    return steps.Batch(jnp.zeros(shape, jnp.uint8), zero.astype(jnp.int32), zero)


def params_template(config: Config) -> dict[str, Params]:
    """Shapes and types of the parameters of `config.models`, without making them."""
    return jax.eval_shape(lambda: steps.init_params(config, blank_batch(config)))


@dataclasses.dataclass(frozen=True)
class Model:
    """The models of a run, with what is needed to use them."""

    config: Config
    label_names: tuple[str, ...]
    params: dict[str, Params]
    step: int
    averaged: bool  # whether params are the moving average

    def log_prob(
        self, videos: Videos, labels: Int[np.ndarray, " labels"] | None = None, seed: int = 0
    ) -> Float[np.ndarray, "batch frames"]:
        """log p of each frame given those before it (and the label), in nats.

        The density is that of dequantised pixels; `flowvid.likelihood.bits_per_dim` with
        `config.metric` turns it into bits per dimension. The sum over frames is log p(video).

        Args:
            videos: uint8, at the model's image size, any number of frames; 1 without a tail.
            labels: indices into `label_names`, one a video; needed by variants with labels.
            seed: of the dequantisation noise.

        Raises:
            ConfigError: when labels are missing or unknown, the frames have another size, or there
                is more than one and no tail.
        """
        self._check_frames(videos)
        if videos.shape[1] < 1:
            raise ConfigError("videos have no frames: give at least 1.")
        if videos.shape[1] > 1:
            self.check_tail(f"{videos.shape[1]} frames a video")
        if not self.config.conditioning.labels:
            labels = np.zeros(len(videos), np.int32)
        known = range(len(self.label_names))
        if labels is None or len(labels) != len(videos) or not set(map(int, labels)) <= set(known):
            raise ConfigError(
                f"this model is conditioned on labels: give {len(videos)} of them, one a video, "
                f"from 0 to {len(known) - 1}."
            )
        labels = np.asarray(labels, np.int32)
        index = np.arange(len(videos), dtype=np.uint32)
        batch = steps.Batch(jnp.asarray(videos), jnp.asarray(labels), jnp.asarray(index))
        return np.asarray(_log_prob(self.config, seed, self.params, batch))

    def sample(
        self,
        num_videos: int = 1,
        label: str | None = None,
        *,
        num_frames: int | None = None,
        temperature: float = 1.0,
        first_frames: Videos | None = None,
        seed: int = 0,
    ) -> Samples:
        """Generates videos from nothing, or continues given frames.

        Args:
            num_videos: how many; with first_frames it is their number.
            label: for variants with labels; if not given, the labels take turns (`turns`).
            num_frames: of each video, given ones included; the run's by default.
            temperature: multiplies the standard deviations of the latents.
            first_frames: uint8 [B, F, H, W, 3] to continue.
            seed: video i depends on (seed, i) alone.

        Raises:
            DataError: for an unknown label, listing the nearest known ones.
            ConfigError: for frames of another size, nothing left to generate, or more than first
                frames from a run without a tail.
        """
        num_frames = num_frames or self.config.num_frames
        if first_frames is not None or num_frames > 1:
            self.check_tail(f"{num_frames} frames a video" if num_frames > 1 else "first_frames")
        num_given = 0 if first_frames is None else first_frames.shape[1]
        if num_frames <= num_given:
            raise ConfigError(
                f"{num_frames} frames are wanted and {num_given} given: ask for more."
            )
        scale = jnp.float32(temperature)
        if first_frames is not None:
            self._check_frames(first_frames)
            keys = streams.video_keys(seed, len(first_frames))
            given = jnp.asarray(first_frames)
            new = num_frames - num_given
            samples = sampling.continue_from(self.config, self.params, keys, given, new, scale)
        else:
            keys = streams.video_keys(seed, num_videos)
            names = self.turns(num_videos) if label is None else [label] * num_videos
            labels = jnp.array([data.label_index(self.label_names, n) for n in names], jnp.int32)
            samples = sampling.generate(self.config, self.params, keys, labels, num_frames, scale)
        return jax.tree.map(np.asarray, samples)

    def turns(self, num_videos: int) -> list[str]:
        """The labels of `num_videos` videos sampled without one given: all of them in turn."""
        return [self.label_names[i % len(self.label_names)] for i in range(num_videos)]

    def check_tail(self, asked: str) -> None:
        """Refuses what was asked where it needs a tail and there is none.

        Raises:
            ConfigError: for a run of the head alone.
        """
        if "tail" not in self.config.models:
            raise ConfigError(
                f"this run is of the head alone (--num_frames=1) and has no tail for {asked}: "
                "use a run trained on videos."
            )

    def _check_frames(self, videos: Any) -> None:
        size = self.config.image_size
        if videos.shape[2:] != (size, size, CHANNELS):
            raise ConfigError(
                f"frames are {'x'.join(map(str, videos.shape[2:]))}, the model's are "
                f"{size}x{size}x{CHANNELS}: resize them first."
            )


@functools.partial(jax.jit, static_argnames=("config", "seed"))
def _log_prob(config: Config, seed: int, params: dict[str, Params], batch: steps.Batch) -> Any:
    bits = steps.eval_step(config, config.metric, seed, params, batch)
    per_frame = jnp.concatenate([bits.head[:, None], bits.tail], axis=1)
    return likelihood.log_prob_from_bits(per_frame, steps.dims(batch.video), config.metric)


def load(workdir: str | pathlib.Path, *, checkpoint: str = "last", average: bool = True) -> Model:
    """The model of a run.

    Args:
        workdir: the run's folder.
        checkpoint: "last", "best" (of the validations during training), or the number of a step.
        average: whether to take the moving average of the parameters, where the run keeps one.

    Raises:
        ConfigError: when `workdir` holds no run, or no such checkpoint.
        TrainingError: when none of its checkpoints can be read.
    """
    workdir = pathlib.Path(workdir)
    config, label_names = checkpoints.read_config(workdir)
    averaged = average and config.ema_decay > 0
    params, step = checkpoints.restore_params(
        workdir, params_template(config), checkpoint=checkpoint, average=averaged
    )
    return Model(config, label_names, jax.tree.map(jnp.asarray, params), step, averaged)
