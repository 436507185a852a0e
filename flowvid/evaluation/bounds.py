"""Means over videos with their standard errors, and the bound of several noise draws."""

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from flowvid.errors import TrainingError
from flowvid.evaluation import scoring


def mean_and_stderr(per_video: Float[np.ndarray, " videos"]) -> dict[str, float | None]:
    """Returns the mean over videos and its standard error, which is None for a single video.

    Raises:
        TrainingError: if a video's likelihood is non-finite.
    """
    if not np.isfinite(per_video).all():
        bad = int((~np.isfinite(per_video)).sum())
        raise TrainingError(
            f"{bad} of {len(per_video)} videos have a non-finite likelihood: the model has "
            "diverged, so there is no number to report; train again with a lower --learning_rate "
            "or more --warmup_steps."
        )
    stderr = scoring.standard_error(per_video)
    return {"bits_per_dim": float(np.mean(per_video)), "stderr": stderr}


def importance_weighted(
    bits: Float[np.ndarray, " draws *shape"], num_dims: int
) -> Float[np.ndarray, "*shape"]:
    """Returns the bound of several noise draws together, in bits per dimension.

    It is -1/D log2 of the mean over draws of 2^(-D bits), which lies between the mean of the draws'
    bounds and the code length of the n-bit frame, nearer to it with more draws (Burda et al. 2016).
    """
    nats = logsumexp(-bits * num_dims * np.log(2), axis=0) - np.log(len(bits))
    return -nats / (num_dims * np.log(2))
