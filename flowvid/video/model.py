"""A trained run as one object, for notebooks and for the entry points: `flowvid.load(workdir)`."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from flowvid import random_keys
from flowvid.arrays import CHANNELS, Params
from flowvid.conditioning.label_names import in_turn, label_index
from flowvid.config.schema import Config
from flowvid.errors import ConfigError
from flowvid.video import joint, sampling
from flowvid.video.frames import Batch, dims
from flowvid.video.pixels import log_prob_from_bits
from flowvid.video.sampling import Samples

Videos = UInt8[np.ndarray, "batch frames height width channels"]


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
        """Returns log p of each frame given those before it (and the label), in nats.

        The density is that of dequantised pixels; `flowvid.video.pixels.bits_per_dim` with
        `config.metric` turns it into bits per dimension. The sum over frames is log p(video).

        Args:
            videos: uint8, at the model's image size, any number of frames; 1 without a tail.
            labels: indices into `label_names`, one per video; needed by variants with labels.
            seed: of the dequantisation noise.

        Raises:
            ConfigError: when labels are missing or unknown, the frames have another size, or there
                is more than one frame and no tail.
        """
        self._check_frames(videos)
        if videos.shape[1] < 1:
            raise ConfigError("videos have no frames: give at least 1.")
        if videos.shape[1] > 1:
            self.check_tail(f"{videos.shape[1]} frames per video")
        labels = self._check_labels(labels, len(videos), self.config.ablation.uses_labels)
        index = np.arange(len(videos), dtype=np.uint32)
        batch = Batch(jnp.asarray(videos), jnp.asarray(labels), jnp.asarray(index))
        return np.asarray(_log_prob(self.config, seed, self.params, batch))

    def sample(
        self,
        num_videos: int = 1,
        label: str | None = None,
        *,
        num_frames: int | None = None,
        temperature: float = 1.0,
        first_frames: Videos | None = None,
        labels: Int[np.ndarray, " labels"] | None = None,
        seed: int = 0,
    ) -> Samples:
        """Generates videos from nothing, or continues given frames.

        Args:
            num_videos: how many; with first_frames it is their number.
            label: of all videos, for variants with labels; by default the labels take turns.
            num_frames: per video, given ones included; the run's by default.
            temperature: multiplies the standard deviations of the latents.
            first_frames: uint8 [B, F, H, W, 3] to continue.
            labels: indices of the labels of first_frames, for a tail that sees the label.
            seed: video i depends on (seed, i) alone.

        Raises:
            DataError: for an unknown label, listing the nearest known ones.
            ConfigError: for frames of another size, nothing left to generate, missing labels, or
                more than first frames from a run without a tail.
        """
        num_frames = num_frames or self.config.num_frames
        if first_frames is not None or num_frames > 1:
            self.check_tail(f"{num_frames} frames per video" if num_frames > 1 else "first_frames")
        num_given = 0 if first_frames is None else first_frames.shape[1]
        if num_frames <= num_given:
            raise ConfigError(
                f"{num_frames} frames are wanted and {num_given} given: ask for more."
            )
        count = num_videos if first_frames is None else len(first_frames)
        keys = random_keys.video_keys(seed, count)
        scale = jnp.float32(temperature)
        if first_frames is not None:
            self._check_frames(first_frames)
            if label is not None:
                labels = np.full(count, label_index(self.label_names, label), np.int32)
            indices = jnp.asarray(self._check_labels(labels, count, self.config.sees("tail").label))
            given = jnp.asarray(first_frames)
            samples = sampling.continue_from(
                self.config, self.params, keys, given, indices, num_frames - num_given, scale
            )
        else:
            names = self.turns(count) if label is None else [label] * count
            indices = jnp.array([label_index(self.label_names, n) for n in names], jnp.int32)
            samples = sampling.generate(self.config, self.params, keys, indices, num_frames, scale)
        return jax.tree.map(np.asarray, samples)

    def turns(self, num_videos: int) -> list[str]:
        """Returns the labels of `num_videos` videos that are sampled without a given label."""
        return in_turn(self.label_names, num_videos)

    def check_tail(self, asked: str) -> None:
        """Refuses what needs a tail where there is none.

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

    def _check_labels(self, labels: Any, count: int, needed: bool) -> np.ndarray:
        """Returns one label per video; zeros where the model sees none of them."""
        if not needed:
            return np.zeros(count, np.int32)
        known = range(len(self.label_names))
        if labels is None or len(labels) != count or not set(map(int, labels)) <= set(known):
            raise ConfigError(
                f"this model is conditioned on labels: give {count} of them, one per video, from 0 "
                f"to {len(known) - 1}."
            )
        return np.asarray(labels, np.int32)


@functools.partial(jax.jit, static_argnames=("config", "seed"))
def _log_prob(config: Config, seed: int, params: dict[str, Params], batch: Batch) -> Any:
    bits = joint.eval_step(config, config.metric, seed, params, batch)
    per_frame = jnp.concatenate([bits.head[:, None], bits.tail], axis=1)
    return log_prob_from_bits(per_frame, dims(batch.video), config.metric)
