"""From bins to standard normal numbers and back, exactly, by the masses of all bins.

A number z stands for a bin of a distribution over bins if Phi(z) lies between the CDF before the
bin and after it. Sums are in double precision, because that of float32 has no room for a bin of
1e-9 in the middle of a distribution. Both tails are summed apart, so that neither loses digits.

Dimensions: N numbers, K bins.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr, ndtri

Masses = Float[np.ndarray, "numbers bins"]
Bins = Int[np.ndarray, " numbers"]
Normals = Float[np.ndarray, " numbers"]

# Added to each bin's mass, so that every bin has its own quantiles: 256 of them are 2e-10 in all,
# and one of them is still 4,000 times the rounding error of the sums.
_LEAST_MASS = 2.0**-40
_ROWS = 2**13  # at once: sums of 256 bins in double precision take 32 MB


def of_bins(masses: Masses, bins: Bins) -> Normals:
    """Returns z in float64, the quantile of the middle of each bin's mass.

    Args:
        masses: of all bins; they need not sum to one.
        bins: one of each number.
    """
    found = np.empty(len(bins))
    for rows, own, below, above in _sums(masses):
        at = (np.arange(len(own)), bins[rows])
        lower, upper = below[at] - own[at] / 2, above[at] - own[at] / 2
        smaller = ndtri(np.minimum(lower, upper) / below[:, -1])
        found[rows] = np.where(lower < upper, smaller, -smaller)
    return found


def bins_of(masses: Masses, z: Normals) -> Bins:
    """Returns the bin that each z stands for; that of a z which `of_bins` returned is the same.

    Args:
        masses: of all bins; they need not sum to one.
        z: float64.
    """
    found = np.empty(len(z), np.int64)
    for rows, own, below, above in _sums(masses):
        smaller = (ndtr(-np.abs(z[rows])) * below[:, -1])[:, None]
        passed = np.where(z[rows, None] < 0, below <= smaller, above > smaller)
        # Of the lower half, bins that end below z; of the upper half, bins that begin below it.
        count = np.sum(passed, axis=1) - (z[rows] >= 0)
        found[rows] = np.clip(count, 0, own.shape[1] - 1)
    return found


def _sums(masses: Masses) -> Iterator[tuple[slice, Masses, Masses, Masses]]:
    """Yields rows, their masses, and the sums of these up to each bin and from each bin on."""
    for start in range(0, len(masses), _ROWS):
        rows = slice(start, start + _ROWS)
        own = masses[rows].astype(np.float64) + _LEAST_MASS
        yield rows, own, np.cumsum(own, axis=1), np.cumsum(own[:, ::-1], axis=1)[:, ::-1]
