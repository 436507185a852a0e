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

    Seeds and videos are two samples, crossed: with other seeds or other videos the mean would be
    another. Each sample has its own margin, the t-quantile of its size times its standard error:
    spread / sqrt(num_seeds) times 12.7 with two seeds, 4.3 with three and 2.8 with five; and the
    error over videos times about 2. The interval reaches the root of the sum of the margins'
    squares to either side. What is due to single pairs of a seed and a video is in both margins, so
    the interval is too wide rather than too narrow; simulations confirm it (tested). A common
    quantile of the joint error, with Satterthwaite's degrees of freedom, is too narrow: two seeds
    are often alike by chance, and then it takes the videos' small quantile for both.

    Returns:
        [low, high], or None for a single seed or video, which does not show how far others are.
    """
    if stderr is None or spread is None:
        return None
    margin_of_seeds = _quantile(num_seeds - 1) * spread / math.sqrt(num_seeds)
    margin_of_videos = _quantile(num_videos - 1) * stderr
    reach = math.hypot(margin_of_seeds, margin_of_videos)
    return [mean - reach, mean + reach]


def _quantile(degrees_of_freedom: int) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees_of_freedom))


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
