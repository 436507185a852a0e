"""Numbers that compare clips by their features: Fréchet distance and diversity."""

import numpy as np
from jaxtyping import Float

Features = Float[np.ndarray, "videos features"]


def frechet_distance(a: Features, b: Features) -> float:
    """Returns |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), for covariances A and B.

    This is the squared Wasserstein-2 distance of two Gaussians that are fitted to the features, as
    in Heusel et al. 2017, where the features are those of Inception.
    """
    mean = np.sum((a.mean(0) - b.mean(0)) ** 2)
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # A B and A^(1/2) B A^(1/2) have the same eigenvalues; the latter is symmetric.
    shared = np.linalg.eigvalsh(root @ cov_b @ root)
    cross = np.sum(np.sqrt(np.maximum(shared, 0)))
    return float(mean + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def diversity(features: Features) -> float:
    """Returns the mean Euclidean distance between the features of two clips."""
    squares = (features**2).sum(1)
    pairs = squares[:, None] + squares - 2 * features @ features.T
    count = len(features)
    return float(np.sqrt(np.maximum(pairs, 0)).sum() / (count * (count - 1)))
