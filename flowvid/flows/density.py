"""Log-densities: the two terms of a flow's, and the Gaussian's."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


class Density(NamedTuple):
    """The two terms of a log-density, in nats, [B] each (paper, equation 3 and Figure 6).

    Attributes:
        log_det: log|det dz/dx|.
        log_prior: log p(z).
        changeable: the part of log p(x) that differs between contexts which are the same at every
            pixel, such as labels, or None where that may be all of it.
    """

    log_det: Float[Array, "*batch"]
    log_prior: Float[Array, "*batch"]
    changeable: Float[Array, "*batch"] | None = None

    @property
    def log_prob(self) -> Float[Array, "*batch"]:
        """log p(x) = log p(z) + log|det dz/dx|."""
        return self.log_det + self.log_prior


def gaussian_log_density(
    x: Float[Array, " batch *shape"],
    mean: Float[Array, "..."] | float = 0.0,
    log_sd: Float[Array, "..."] | float = 0.0,
) -> Float[Array, " batch"]:
    """Returns log N(x; mean, exp(log_sd)^2) in nats, summed over all dimensions of an example."""
    z = (x - mean) * jnp.exp(-log_sd)
    terms = -0.5 * (math.log(2 * math.pi) + z**2) - log_sd
    return jnp.sum(terms, axis=tuple(range(1, x.ndim)))
