"""Means over seeds and videos, their errors, and whether a difference holds beyond the seeds."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from flowvid.evaluation.scoring import standard_error

CONFIDENCE = 0.95
ONE_SEED = "not known (one seed shows the difference but not whether it holds)"


def summarize(values: Float[np.ndarray, "seeds videos"]) -> dict[str, Any]:
    """Returns the mean of one number per seed and video, with its errors.

    Args:
        values: the same videos for every seed.

    Returns:
        {"mean", "stderr": the standard error over videos of their means over seeds, "per_seed": the
        means over videos, "spread": the standard deviation of these, "interval": [low, high], see
        `interval`}. The errors are None where there is a single video or seed.
    """
    per_seed, per_video = values.mean(axis=1), values.mean(axis=0)
    stderr = standard_error(per_video)
    spread = float(per_seed.std(ddof=1)) if len(per_seed) > 1 else None
    return {
        "mean": float(values.mean()),
        "stderr": stderr,
        "per_seed": per_seed.tolist(),
        "spread": spread,
        "interval": interval(float(values.mean()), stderr, spread, *values.shape),
    }


def interval(
    mean: float, stderr: float | None, spread: float | None, num_seeds: int, num_videos: int
) -> list[float] | None:
    """Returns the 95% confidence interval of a mean over all seeds and videos there could be.

    Seeds and videos are two samples, crossed: the mean would be another with other seeds or other
    videos. Its variance is estimated by spread² / num_seeds + stderr². The part that is due to
    single pairs of a seed and a video is in both terms, so that the interval is too wide rather
    than too narrow. It reaches as many standard errors to either side as Student's t asks for; the
    degrees of freedom are Satterthwaite's. Where the spread over seeds decides, these are
    num_seeds - 1, which makes 12.7 standard errors of two seeds and 4.3 of three; where the error
    over videos decides, num_videos - 1, which makes about 2.

    Returns:
        [low, high], or None for a single seed or video, which does not show how far others are.
    """
    if stderr is None or spread is None:
        return None
    of_seeds, of_videos = spread**2 / num_seeds, stderr**2
    variance = of_seeds + of_videos
    if not variance:
        return [mean, mean]
    freedom = variance**2 / (of_seeds**2 / (num_seeds - 1) + of_videos**2 / (num_videos - 1))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    return [mean - reach, mean + reach]


def verdict(entry: dict[str, Any], sign: int) -> str:
    """Returns whether the mean of all seeds and videos has a sign: yes, no, or not known.

    Args:
        entry: from `summarize`.
        sign: 1 or -1, as the claim has it.

    Returns:
        "yes" if the whole interval has the sign, "no" if the whole interval has the other one,
        "not certain" if it holds zero; for a single seed, `ONE_SEED`.
    """
    if len(entry["per_seed"]) == 1:
        return ONE_SEED
    if entry["interval"] is None:
        return "not certain"
    low, high = sorted(sign * bound for bound in entry["interval"])
    return "yes" if low > 0 else "no" if high < 0 else "not certain"


def number(entry: dict[str, Any], digits: int = 3) -> str:
    """Returns the mean as text, ± the error over videos, with (the spread over seeds)."""
    text = f"{entry['mean']:.{digits}f}"
    if entry["stderr"] is not None:
        text += f" ± {entry['stderr']:.{digits}f}"
    if entry["spread"] is not None:
        text += f" ({entry['spread']:.{digits}f})"
    return text


def number_and_interval(entry: dict[str, Any], digits: int = 3) -> str:
    """Returns `number` with the confidence interval, where there is one."""
    text = number(entry, digits)
    if entry["interval"] is None:
        return text
    low, high = entry["interval"]
    return f"{text}, 95% interval {low:.{digits}f} to {high:.{digits}f}"
