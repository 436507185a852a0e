"""The metrics: how grey values become the real numbers whose density a flow models."""

from typing import NamedTuple


class Metric(NamedTuple):
    """How pixels are dequantised, which is what a number of bits per dimension means.

    With `floor`, x = floor(v / 2^(8-n)) / 2^n - 1/2 + u, u ~ U[0, 2^-n): the bits per dimension are
    an upper bound on those of the n-bit image (Theis et al. 2016). Without (`paper`),
    x = v / 256 - 1/2 + U[0, 1/32) with the offset of 5 bits: no such bound, but what Table I shows.
    """

    n_bits: int
    floor: bool

    @property
    def name(self) -> str:
        """Printed with every number: "5-bit", "8-bit" or "paper"."""
        return f"{self.n_bits}-bit" if self.floor else "paper"


METRICS = {m.name: m for m in (Metric(5, True), Metric(8, True), Metric(5, False))}
