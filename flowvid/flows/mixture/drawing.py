"""From random numbers to a stage's pixels: the inverse, or samples, which may be guided."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Key, PRNGKeyArray

from flowvid.flows.bijectors import logistic_mixture, mixture_cdf
from flowvid.flows.bijectors.logistic_mixture import Mixture
from flowvid.flows.mixture.last_image import Draw
from flowvid.flows.protocol import Latents, Shape


def drawing(
    num_bins: int, temperature: Float[Array, ""] | None, guidance: Float[Array, ""] | None
) -> Draw:
    """Returns the function from a stage's mixtures and random numbers to its pixels.

    Args:
        num_bins: 2^n.
        temperature: of samples, which are made of uniform numbers (`uniform_numbers`); None for
            the exact inverse, of standard normal ones.
        guidance: scale of the difference between two mixtures, that with the label and that
            without; None where there is no label.
    """

    def draw(mixtures: Sequence[Mixture], numbers: Array) -> Array:
        if temperature is None:
            return mixture_cdf.inverse(mixtures[0], numbers, num_bins)[0]
        sharp = [logistic_mixture.sharpened(mixture, temperature) for mixture in mixtures]
        if guidance is None or len(sharp) == 1:
            return mixture_cdf.drawn(sharp[0], numbers, num_bins)
        with_label, without = sharp
        return mixture_cdf.guided(with_label, without, guidance, numbers, num_bins)

    return draw


def uniform_numbers(keys: Key[Array, " batch"], shapes: Sequence[Shape]) -> Latents:
    """Draws numbers in [0, 1) in the place of latents, arrays [B, *shape], from a key per image."""
    sizes = [math.prod(shape) for shape in shapes]

    def draw(key: PRNGKeyArray) -> Latents:
        # All at once: programs of many small operations take longer to start them than to run.
        parts = jnp.split(jax.random.uniform(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
        return tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))

    return jax.vmap(draw)(keys)
