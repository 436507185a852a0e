"""Tells a wrong likelihood from an unlucky one, where bits per dimension are below zero."""

import numpy as np

P_VALUE = 1e-6


def is_violated(bits_per_dim: np.ndarray) -> bool:
    """Tests whether the bits per dimension of a floored metric are below zero beyond chance.

    With x = v / 2^n + u for an n-bit image v and noise u, Jensen's inequality gives
    E_u[-log2 p(x)] + n D >= -log2 P(v) >= 0, where P(v) is the probability that the model gives to
    the image v, at most 1 (Theis et al. 2016, section 3.1). So the bound holds in expectation over
    the noise: a correct model that is certain of an image may well be below zero for one draw of u,
    but the mean of independent draws can only be below zero by their error.

    This is Student's t-test, one-sided at `P_VALUE`, of the hypothesis that the mean is zero or
    more. Non-finite draws are ignored. A single draw never violates the bound.

    Args:
        bits_per_dim: independent draws [N], such as the means of videos or of batches.
    """
    draws = bits_per_dim[np.isfinite(bits_per_dim)]
    if len(draws) < 2 or draws.mean() >= 0:
        return False
    import scipy.special  # only here: it takes long to import, and each run imports this module

    standard_error = draws.std(ddof=1) / np.sqrt(len(draws))
    if standard_error == 0:
        return True
    t = draws.mean() / standard_error
    return bool(scipy.special.stdtr(len(draws) - 1, t) < P_VALUE)
