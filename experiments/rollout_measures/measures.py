"""Measures continuations of held-out clips frame by frame, beside two baselines.

Dimensions: V videos, T frames, S samples per video, H height, W width.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from scipy import stats

from experiments.rollout_measures.objects import Kept, objects_kept
from experiments.running import frame_measures
from flowvid.errors import ConfigError
from flowvid.video.model import Model

Videos = UInt8[np.ndarray, "videos frames height width 3"]
Samples = UInt8[np.ndarray, "samples videos frames height width 3"]

AFTER = (1, 4, 8, 16, 26)  # frames after the last given one at which tables show the measures
BASELINES = ("hold the last frame", "static median")
GENERATED = ("moving_shapes",)  # datasets whose objects can be told from the ground


class Rollout(NamedTuple):
    """Continuations of some clips."""

    real: Videos
    samples: Samples  # given frames included
    given: int


def roll_out(
    model: Model,
    clips: Videos,
    labels: Any,
    given: int,
    samples: int,
    temperature: float | None,
    seed: int,
) -> Rollout:
    """Continues the first `given` frames of each clip to its end, `samples` times."""
    found = [
        model.sample(
            first_frames=clips[:, :given],
            labels=labels if model.config.sees("tail").label else None,
            num_frames=clips.shape[1],
            temperature=temperature,
            seed=seed + number,
        ).videos
        for number in range(samples)
    ]
    return Rollout(clips, np.stack(found), given)


def baselines(real: Videos, given: int) -> dict[str, Samples]:
    """Returns the continuations by which nothing moves, as one sample each: [1, V, T, H, W, 3].

    They hold the last given frame, or show the median of all given ones.
    """
    later = real.shape[1] - given
    last = real[:, given - 1]
    median = np.median(real[:, :given], axis=1).astype(np.uint8)
    still = dict(zip(BASELINES, (last, median), strict=True))
    return {
        name: np.concatenate([real[:, :given], np.repeat(frame[:, None], later, axis=1)], axis=1)[
            None
        ]
        for name, frame in still.items()
    }


def psnr(real: Videos, samples: Samples, given: int) -> Float[np.ndarray, "samples videos later"]:
    """Returns the peak signal-to-noise ratio of each later frame, in decibels."""
    later = real[:, given:]
    found = [
        frame_measures.of_clips(frame_measures.psnr, later, sample[:, given:]) for sample in samples
    ]
    return np.stack(found)


def check_given(given: int, num_frames: int) -> None:
    """Checks that frames are left to predict.

    Raises:
        ConfigError: if all frames of a clip are given.
    """
    if given >= num_frames:
        raise ConfigError(
            f"--given={given} leaves none of the {num_frames} frames of a clip to predict: give "
            "fewer."
        )


def measure(rollout: Rollout, has_objects: bool) -> dict[str, Any]:
    """Returns the measures of each later frame: lists over frames, with standard errors.

    Args:
        rollout: the continuations.
        has_objects: whether objects can be told from the ground, as in moving_shapes.
    """
    real, samples, given = rollout
    each = psnr(real, samples, given)
    found: dict[str, Any] = {
        "psnr_best": mean_and_error(each.max(axis=0)),
        "psnr_mean": mean_and_error(each.mean(axis=0)),
    }
    if has_objects:
        frames = range(given, real.shape[1])
        found["objects"] = [_of_objects(real, samples, given, frame) for frame in frames]
    return found


def _of_objects(real: Videos, samples: Samples, given: int, frame: int) -> dict[str, Any]:
    compare = functools.partial(objects_kept, given=given, at=frame)
    found: list[list[Kept]] = []  # by clip, over samples
    for video, clip in enumerate(real):
        of_clip = [compare(clip, sample[video]) for sample in samples]
        found.append([kept for kept in of_clip if kept is not None])
    counted = [clip for clip in found if clip]
    if not counted:
        return {"kept": None, "stderr": None, "distance": None, "clips": 0}
    shares = [float(np.mean([kept.is_kept for kept in clip])) for clip in counted]
    distances = [kept.distance for clip in counted for kept in clip]
    is_known = not np.isnan(distances).all()
    return {
        "kept": float(np.mean(shares)),
        "stderr": float(stats.sem(shares)) if len(shares) > 1 else None,
        "distance": float(np.nanmedian(distances)) if is_known else None,
        "clips": len(counted),
    }


def mean_and_error(values: Float[np.ndarray, "videos later"]) -> dict[str, list[float] | None]:
    """Returns the mean of each frame over videos, and its standard error, None for one video."""
    errors = stats.sem(values).tolist() if len(values) > 1 else None
    return {"mean": values.mean(axis=0).tolist(), "stderr": errors}
