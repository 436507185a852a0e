"""A trained run as one object, for notebooks and for the entry points: `flowvid.load(workdir)`."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import ArrayLike

from flowvid import random_keys
from flowvid.arrays import CHANNELS, Params
from flowvid.conditioning.label_names import in_turn, label_index
from flowvid.config.schema import Config
from flowvid.errors import ConfigError, whole_number
from flowvid.video import joint, latents, sampling
from flowvid.video.frames import Batch, dims
from flowvid.video.latents import VideoLatents
from flowvid.video.pixels import log_prob_from_bits
from flowvid.video.sampling import Frame, Samples
from flowvid.video.surprise import surprises

Videos = UInt8[np.ndarray, "batch frames height width channels"]


class VideoScores(NamedTuple):
    """Bits per dimension, under the metric of the run."""

    bits: Float[np.ndarray, "batch frames"]
    # Of each pixel; their mean is that of the frame. None for a flow that does not model bins.
    maps: Float[np.ndarray, "batch frames height width"] | None


@dataclasses.dataclass(frozen=True)
class Model:
    """The models of a run, with what is needed to use them."""

    config: Config
    label_names: tuple[str, ...]
    params: dict[str, Params]
    step: int
    averaged: bool  # whether params are the moving average

    def log_prob(
        self, videos: ArrayLike, labels: ArrayLike | None = None, seed: int = 0
    ) -> Float[np.ndarray, "batch frames"]:
        """Returns log p of each frame given those before it (and the label), in nats.

        The density is that of dequantised pixels; `flowvid.video.pixels.bits_per_dim` with
        `config.metric` turns it into bits per dimension. The sum over frames is log p(video).

        Args:
            videos: uint8 [videos, frames, height, width, 3], at the model's image size; any number
                of frames, but 1 without a tail.
            labels: indices into `label_names`, one per video; needed by variants with labels.
            seed: of the dequantisation noise; below 2^32.

        Raises:
            ConfigError: when labels are missing or unknown, the frames are not uint8 or have
                another size, the seed is not a whole number below 2^32, or there is more than one
                frame and no tail.
        """
        seed = whole_number("seed", seed, 0, random_keys.MAX_SEED)
        videos = self._checked_frames(videos, "videos")
        if videos.shape[1] > 1:
            self.check_tail(f"{videos.shape[1]} frames per video")
        labels = self._check_labels(labels, len(videos), self.config.ablation.uses_labels)
        batch = Batch(*map(jnp.asarray, (videos, labels, np.arange(len(videos), dtype=np.uint32))))
        return np.asarray(_log_prob(self.config, np.uint32(seed), self.params, batch))

    def score(
        self, videos: ArrayLike, labels: ArrayLike | None = None, seed: int = 0
    ) -> VideoScores:
        """Returns the bits per dimension of each frame given those before it, and of each pixel.

        Frames are scored one after another, so memory does not grow with the number of frames.

        Args:
            videos: uint8 [videos, frames, height, width, 3], at the model's image size.
            labels: indices into `label_names`, one per video; needed by variants with labels.
            seed: of the dequantisation noise of a Glow; below 2^32.

        Raises:
            ConfigError: as `log_prob` does.
        """
        seed = whole_number("seed", seed, 0, random_keys.MAX_SEED)
        videos = self._checked_frames(videos, "videos")
        if videos.shape[1] > 1:
            self.check_tail(f"{videos.shape[1]} frames per video")
        indices = self._check_labels(labels, len(videos), self.config.ablation.uses_labels)
        frames = np.moveaxis(videos, 1, 0)
        found = list(surprises(self.config, self.params, jnp.asarray(indices), frames, seed))
        bits = np.stack([frame.bits for frame in found], axis=1)
        if not self.config.models_bins:
            return VideoScores(bits, None)
        return VideoScores(bits, np.stack([np.asarray(f.maps) for f in found], axis=1))

    def encode(self, videos: ArrayLike, labels: ArrayLike | None = None) -> VideoLatents:
        """Returns the latents of videos, of which `decode` makes the videos again.

        Every pixel comes back at 8 bits, and every bin at 5, as docs/sampling.md says in detail.

        Args:
            videos: uint8 [videos, frames, height, width, 3], at the model's image size.
            labels: indices into `label_names`, one per video; needed by variants with labels.

        Raises:
            ConfigError: as `log_prob` does.
        """
        videos = self._checked_frames(videos, "videos")
        if videos.shape[1] > 1:
            self.check_tail(f"{videos.shape[1]} frames per video")
        indices = self._check_labels(labels, len(videos), self.config.ablation.uses_labels)
        frames = np.moveaxis(videos, 1, 0)
        return latents.encoded(self.config, self.params, jnp.asarray(indices), frames)

    def decode(self, of_videos: VideoLatents, labels: ArrayLike | None = None) -> Videos:
        """Returns the videos of latents, uint8 [videos, frames, height, width, 3].

        Args:
            of_videos: those of `encode`, or others of the same shapes.
            labels: as in `encode`; others show what a label changes.

        Raises:
            ConfigError: for latents of other shapes, missing or unknown labels, or more than one
                frame and no tail.
        """
        if len(of_videos.frames) > 1:
            self.check_tail(f"{len(of_videos.frames)} frames per video")
        count = latents.check(self.config, of_videos)
        indices = self._check_labels(labels, count, self.config.ablation.uses_labels)
        frames = latents.decoded(self.config, self.params, jnp.asarray(indices), of_videos.frames)
        return np.stack(list(frames), axis=1)

    def sample(
        self,
        num_videos: int = 1,
        label: str | None = None,
        *,
        num_frames: int | None = None,
        temperature: float | Sequence[float] | None = None,
        guidance: float | None = None,
        first_frames: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        seed: int = 0,
    ) -> Samples:
        """Generates videos from nothing, or continues given frames.

        Args:
            num_videos: how many; with first_frames it is their number.
            label: of all videos, for variants with labels; by default the labels take turns.
            num_frames: per video, given ones included; the run's by default.
            temperature: 1 samples the model, and less keeps to what is likelier; 0 or more. Several
                are those of the flow's levels, the finest first; the last one is also that of all
                coarser levels. By default those of the flow: 1; in a mixture flow 0.4 for later
                frames, and 0.6 for the levels of the first one above its last image.
            guidance: how much the label counts; 1 samples the model, and more makes the label
                plainer. By default that of the flow: 3 for the first frame of a mixture flow whose
                run was trained with --label_dropout, and 1 else.
            first_frames: uint8 [videos, frames, height, width, 3] to continue.
            labels: indices of the labels of first_frames, for a tail that sees the label; another
                tail ignores them.
            seed: below 2^32; video i depends on (seed, i) alone.

        Raises:
            DataError: for an unknown label, listing the nearest known ones.
            ConfigError: for frames of another type or size, numbers that are not whole or out of
                range, a temperature or a guidance below 0 or not finite, guidance of a run that has
                none, missing labels, labels without first_frames, or more than first frames from a
                run without a tail.
        """
        if num_frames is None:
            num_frames = self.config.num_frames
        frames = self.stream(
            num_videos,
            label,
            num_frames=num_frames,
            temperature=temperature,
            guidance=guidance,
            first_frames=first_frames,
            labels=labels,
            seed=seed,
        )
        return sampling.collected(frames)

    def stream(
        self,
        num_videos: int = 1,
        label: str | None = None,
        *,
        num_frames: int | None = None,
        temperature: float | Sequence[float] | None = None,
        guidance: float | None = None,
        first_frames: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        seed: int = 0,
    ) -> Iterator[Frame]:
        """Returns an iterator of the frames that `sample` returns, sampled as they are asked for.

        Memory and compilation do not depend on the number of frames, and neither do the frames: a
        short video is the beginning of a longer one with the same seed, bit for bit. Each `Frame`
        holds `pixels`, uint8 [videos, height, width, 3], and `finite` [videos]: whether each video
        is finite up to this frame.

        The arguments are those of `sample`, but that the frames never end without num_frames.

        Raises:
            DataError, ConfigError: at once, as `sample` does.
        """
        num_videos = whole_number("num_videos", num_videos, 1)
        if num_frames is not None:
            num_frames = whole_number("num_frames", num_frames, 1)
        seed = whole_number("seed", seed, 0, random_keys.MAX_SEED)
        how = sampling.drawings(self.config, temperature, guidance)
        if labels is not None and first_frames is None:
            raise ConfigError("labels are those of first_frames: use label where there are none.")
        given = None
        if first_frames is not None:
            given = self._checked_frames(first_frames, "first_frames")
        if num_frames != 1:
            self.check_tail(f"{num_frames or 'endless'} frames per video")
        elif given is not None:
            self.check_tail("first_frames")
        count, num_given = (num_videos, 0) if given is None else given.shape[:2]
        if num_frames is not None and num_frames <= num_given:
            raise ConfigError(
                f"{num_frames} frames are wanted and {num_given} given: ask for more."
            )
        if given is None:
            names = self.turns(count) if label is None else [label] * count
            indices = np.array([label_index(self.label_names, n) for n in names], np.int32)
        else:
            if label is not None:
                labels = np.full(count, label_index(self.label_names, label), np.int32)
            indices = self._check_labels(labels, count, self.config.sees("tail").label)
        keys = random_keys.video_keys(seed, count)
        return sampling.frames(
            self.config, self.params, keys, jnp.asarray(indices), how, num_frames, given
        )

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

    def _checked_frames(self, videos: ArrayLike, name: str) -> Videos:
        """Returns frames that the model can take, as an array."""
        size = self.config.image_size
        wanted = f"uint8 [videos, frames, {size.height}, {size.width}, {CHANNELS}]"
        array = np.asarray(videos)
        dtype, shape = array.dtype, array.shape
        if dtype != np.uint8 or len(shape) != 5:
            raise ConfigError(
                f"{name} are {dtype} {list(shape)}, the model takes {wanted}: convert them, with "
                "black 0 and white 255."
            )
        if shape[2:] != (*size, CHANNELS):
            raise ConfigError(
                f"frames are {'x'.join(map(str, shape[2:]))}, the model's are "
                f"{size.both}x{CHANNELS}: resize them first."
            )
        if not shape[0] or not shape[1]:
            raise ConfigError(f"{name} are {list(shape)}: give at least 1 video of 1 frame.")
        return array

    def _check_labels(self, labels: Any, count: int, needed: bool) -> np.ndarray:
        """Returns one label per video; zeros where the model sees none of them."""
        if not needed:
            return np.zeros(count, np.int32)
        given, last = np.asarray([] if labels is None else labels), len(self.label_names) - 1
        of_right_kind = given.shape == (count,) and given.dtype.kind in "iu"
        if not of_right_kind or given.min() < 0 or given.max() > last:
            raise ConfigError(
                f"this model is conditioned on labels: give {count} of them, one per video, whole "
                f"numbers from 0 to {last}."
            )
        return given.astype(np.int32)


@functools.partial(jax.jit, static_argnames="config")
def _log_prob(
    config: Config, seed: random_keys.Seed, params: dict[str, Params], batch: Batch
) -> Any:
    bits = joint.eval_step(config, config.metric, seed, params, batch)
    per_frame = jnp.concatenate([bits.head[:, None], bits.tail], axis=1)
    return log_prob_from_bits(per_frame, dims(batch.video), config.metric)
