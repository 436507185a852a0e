"""The best of several samples, and means over clips, as papers on video prediction report them.

Dimensions: V videos, S samples per video, L later frames.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from experiments.rollout_measures.measures import mean_and_error
from flowvid.evaluation.scoring import standard_error

Values = Float[np.ndarray, "videos samples later"]


def best_samples(values: Values, lower_is_better: bool) -> Int[np.ndarray, " videos"]:
    """Returns the number of each clip's best sample: that of the best mean over its later frames.

    This is the choice of SVG (Denton and Fergus 2018) and SAVP (Lee et al. 2018): a whole sample is
    chosen for each clip, and for each measure by that measure. To choose anew at every frame would
    join frames of different samples into a sequence that the model has not predicted, and give
    better numbers.
    """
    means = values.mean(axis=2)
    return np.argmin(means, axis=1) if lower_is_better else np.argmax(means, axis=1)


def summarise(values: Values, lower_is_better: bool) -> dict[str, Any]:
    """Returns the best sample's and the mean sample's measure, for JSON.

    Each has "mean" and "stderr" of every later frame, lists over frames, and the same of the mean
    over these frames, "all_frames". Means are over clips, and so are standard errors, which are
    None for a single clip.
    """
    chosen = best_samples(values, lower_is_better)
    best = values[np.arange(len(values)), chosen]
    return {"best": _over_clips(best), "mean": _over_clips(values.mean(axis=1))}


def _over_clips(values: Float[np.ndarray, "videos later"]) -> dict[str, Any]:
    of_clips = values.mean(axis=1)
    overall = {"mean": float(of_clips.mean()), "stderr": standard_error(of_clips)}
    return mean_and_error(values) | {"all_frames": overall}
