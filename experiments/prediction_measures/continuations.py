"""Many samples of each clip, measured in parts that fit into memory; what is done is kept.

Dimensions: V videos, S samples per video, T frames, L later frames, D features.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from experiments.prediction_measures.networks import FeaturesOf
from experiments.rollout_measures.measures import baselines
from experiments.running.frame_measures import Clips, Measure, of_clips
from flowvid.data import datasets
from flowvid.errors import ConfigError
from flowvid.evaluation import scoring
from flowvid.evaluation.partial_results import PartialResults
from flowvid.video.frames import Batch
from flowvid.video.model import Model

Clip = UInt8[np.ndarray, "frames height width 3"]


@dataclasses.dataclass(frozen=True)
class Continuations:
    """Samples that continue clips.

    Those of a clip depend on the seed, the clip's number and the sizes of the parts, and on no
    other clip.
    """

    model: Model
    given: int
    samples: int
    batch_size: int  # samples that are drawn and measured at a time, at most
    temperature: float | None
    seed: int

    @property
    def part_size(self) -> int:
        """Samples per part: parts are of equal size, so that they are compiled once."""
        return math.ceil(self.samples / math.ceil(self.samples / self.batch_size))

    def part(self, clip: Clip, label: int, number: int, part: int) -> Clips:
        """Returns one part of the samples of a clip, given frames included.

        Args:
            clip: the clip.
            label: its label.
            number: of the clip in its split.
            part: from 0 on.

        Raises:
            ConfigError: if a sample is not finite.
        """
        size = self.part_size
        seed = np.random.SeedSequence((self.seed, number, part)).generate_state(1)[0]
        samples = self.model.sample(
            first_frames=np.repeat(clip[None, : self.given], size, axis=0),
            labels=np.full(size, label) if self.model.config.sees("tail").label else None,
            num_frames=len(clip),
            temperature=self.temperature,
            seed=int(seed),
        )
        if not samples.finite.all():
            raise ConfigError(
                f"{int((~samples.finite).sum())} samples of clip {number} are not finite: the "
                "model has diverged, or the temperature is too high."
            )
        found: Clips = np.asarray(samples.videos)[: self.samples - part * size]
        return found

    def parts(self, clip: Clip, label: int, number: int) -> Iterator[Clips]:
        """Yields all samples of a clip, part after part; the arguments are those of `part`."""
        for part in range(math.ceil(self.samples / self.part_size)):
            yield self.part(clip, label, number, part)

    def sample(self, clip: Clip, label: int, number: int, sample: int) -> Clip:
        """Returns one sample of a clip, drawn again."""
        part, place = divmod(sample, self.part_size)
        found: Clip = self.part(clip, label, number, part)[place]
        return found


def measure_all(
    continuations: Continuations,
    dataset: datasets.Dataset,
    num_videos: int,
    measures: dict[str, Measure],
    features_of: FeaturesOf | None,
    kept: PartialResults,
) -> dict[str, Float[np.ndarray, "videos ..."]]:
    """Measures the samples of the first clips of a split, and the baselines.

    Args:
        continuations: the samples.
        dataset: the split.
        num_videos: how many of its clips.
        measures: functions of frames by name.
        features_of: features of clips; None for none.
        kept: file of intermediate results.

    Returns:
        By "samples/<name>" each measure [V, S, L], by "baselines/<name>" that of the two baselines
        [V, 2, L], and by "samples/features" [V, S, D], "baselines/features" [V, 2, D] and
        "real/features" [V, 1, D] the features.
    """

    def result_of(batch: Batch) -> dict[str, Any]:
        videos, labels, numbers = (_of_one_device(array) for array in batch)
        # Copies of the last clip fill up a batch: each clip is measured once.
        numbers, first = np.unique(numbers, return_index=True)
        found = [
            _measure_clip(continuations, videos[i], int(labels[i]), int(n), measures, features_of)
            for i, n in zip(first, numbers, strict=True)
        ]
        return {"index": numbers} | {name: np.stack([f[name] for f in found]) for name in found[0]}

    results = scoring.over_videos(result_of, dataset, 1, num_videos, "predicting", kept=kept)
    assert results is not None  # it is never stopped
    return results


def _of_one_device(array: Any) -> np.ndarray:
    """Returns a batch that was split over devices, [devices, B, ...], as [devices * B, ...]."""
    flat = np.asarray(array)
    return flat.reshape(-1, *flat.shape[2:])


def _measure_clip(
    continuations: Continuations,
    clip: Clip,
    label: int,
    number: int,
    measures: dict[str, Measure],
    features_of: FeaturesOf | None,
) -> dict[str, np.ndarray]:
    """Returns what `measure_all` does, of one clip."""
    given = continuations.given
    still = np.concatenate([found[0] for found in baselines(clip[None], given).values()])

    def of_videos(videos: Clips) -> dict[str, np.ndarray]:
        later = videos[:, given:]
        real = np.broadcast_to(clip[given:], later.shape)
        found = {name: of_clips(measure, real, later) for name, measure in measures.items()}
        return found | ({} if features_of is None else {"features": features_of(videos)})

    parts = [of_videos(videos) for videos in continuations.parts(clip, label, number)]
    found = {f"samples/{name}": np.concatenate([p[name] for p in parts]) for name in parts[0]}
    found |= {f"baselines/{name}": values for name, values in of_videos(still).items()}
    if features_of is not None:
        found["real/features"] = features_of(clip[None])
    return found
