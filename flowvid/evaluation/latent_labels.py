"""Whole videos whose later frames follow one of the labels, which need not be their own.

A label may say how things look and not how they move. A tail that is told such a label knows less
of a video than one that is told a label of its motion, so that a video of it is likelier under
another label. Here the label y of a video says how likely it is that the tail is told label k:

    p(video | y) = p(first frame | y) sum over k of p(k | y) p(later frames | first frame, k).

It is an exact density, since each term is one. The shares p(k | y) are estimated on clips of the
training split.

Dimensions: N videos, K labels.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

Log2Probs = Float[np.ndarray, "videos labels"]
Shares = Float[np.ndarray, "labels told"]

# Each label begins as if so many videos of it had been seen, half of them following their own
# label and half any.
_SEEN_BEFORE = 2.0
_ITERATIONS = 500


def estimate_shares(log2_p_later: Log2Probs, labels: Int[np.ndarray, " videos"]) -> Shares:
    """Returns p(k | y), [K, K]: rows sum to one, and no entry is zero.

    It is the maximum a posteriori estimate by expectation-maximisation (Dempster et al. 1977),
    whose posterior has one maximum. A label without videos keeps the prior.

    Args:
        log2_p_later: log2 p(later frames | first frame, k) of videos for every k.
        labels: the videos' own.
    """
    num_labels = log2_p_later.shape[1]
    prior = _SEEN_BEFORE * (np.eye(num_labels) + 1 / num_labels) / 2
    shares = prior / _SEEN_BEFORE
    for _ in range(_ITERATIONS):
        followed = np.log(2) * log2_p_later + np.log(shares[labels])
        followed = np.exp(followed - logsumexp(followed, axis=1, keepdims=True))
        counts = prior.copy()
        np.add.at(counts, labels, followed)
        shares = counts / counts.sum(axis=1, keepdims=True)
    return shares


def log2_p_of_videos(first_frame: Log2Probs, video: Log2Probs, shares: Shares) -> Log2Probs:
    """Returns log2 p(video | y) for every y, with what is told as a latent variable.

    Args:
        first_frame: log2 p(first frame | y).
        video: log2 p(video | y) where the tail is told y.
        shares: p(k | y).
    """
    later = np.log(2) * (video - first_frame)
    of_told = later[:, None] + np.log(shares)[None]
    found: np.ndarray = first_frame + logsumexp(of_told, axis=2) / np.log(2)
    return found
