"""From a stage's latents to its pixels: the inverse, samples at a temperature, or guided ones."""

from collections.abc import Sequence

from jax import Array
from jaxtyping import Float

from flowvid.flows.bijectors import logistic_mixture, mixture_cdf
from flowvid.flows.bijectors.logistic_mixture import Mixture
from flowvid.flows.mixture.last_image import Draw


def drawing(
    num_bins: int, temperature: Float[Array, ""] | None, guidance: Float[Array, ""] | None
) -> Draw:
    """Returns the function from a stage's mixtures and latents to its pixels.

    Args:
        num_bins: 2^n.
        temperature: of samples; None for the exact inverse.
        guidance: scale of the difference between two mixtures, that with the label and that
            without; None where there is no label.
    """

    def draw(mixtures: Sequence[Mixture], z: Array) -> Array:
        if temperature is None:
            return mixture_cdf.inverse(mixtures[0], z, num_bins)[0]
        sharp = [logistic_mixture.sharpened(mixture, temperature) for mixture in mixtures]
        if guidance is None or len(sharp) == 1:
            return mixture_cdf.drawn(sharp[0], z, num_bins)
        with_label, without = sharp
        return mixture_cdf.guided(with_label, without, guidance, z, num_bins)

    return draw
