"""Mixtures of logistics over bins: the masses of quantised pixels, channel after channel.

A pixel's channels have a mixture of K logistics, discretised to the 2^n bins of its values, as in
PixelCNN++ (Salimans et al. 2017).

Positions, means and scales are in bins: bin b covers [b, b + 1), and begins at the pixel value
x = b / 2^n - 1/2. The first and the last bin hold the tails of the logistics.

Dimensions: K components, C channels.
"""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

Pixels = Float[Array, "*pixels channels"]

_LEAST_TEMPERATURE = 1e-3


class Mixture(NamedTuple):
    """The mixtures of an image's pixels.

    The weights are those of whole pixels, so that their channels depend on each other. The mean of
    a channel also moves with how far the earlier channels are from their means.
    """

    logits: Float[Array, "*pixels components"]
    means: Float[Array, "*pixels components channels"]
    log_scales: Float[Array, "*pixels components channels"]
    slopes: Float[Array, "*pixels pairs"]  # C (C - 1) / 2: those of channel 1, then of 2, ...


class Channel(NamedTuple):
    """The mixture of one channel [K, *pixels], given the channels before it.

    Components come first, since XLA vectorises over the last axis: on CPU, their arithmetic takes a
    tenth of the time.
    """

    log_weights: Array  # normalised
    means: Array
    log_scales: Array
    num_bins: int

    def log_tails(self, edge: Array) -> tuple[Array, Array]:
        """Returns log F and log(1 - F) at the lower edge of a bin [*pixels], as a float.

        Both are computed for themselves, so that neither loses digits where it is small.
        """
        scaled = (edge[None] - self.means) * jnp.exp(-self.log_scales)
        below, above = (
            jax.nn.logsumexp(self.log_weights + jax.nn.log_sigmoid(sign * scaled), axis=0)
            for sign in (1, -1)
        )
        first, last = edge < 0.5, edge > self.num_bins - 0.5
        return (
            jnp.where(first, -jnp.inf, jnp.where(last, 0.0, below)),
            jnp.where(first, 0.0, jnp.where(last, -jnp.inf, above)),
        )

    def log_masses(self, bins: Array) -> Array:
        """Returns the log of each component's mass in a bin, without its weight, [K, *pixels].

        With the sigmoid s, s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)), which loses no digits.
        """
        inverse = jnp.exp(-self.log_scales)
        lower = (bins[None] - self.means) * inverse
        below = jax.nn.log_sigmoid(lower + inverse)
        above = jax.nn.log_sigmoid(-lower)
        inside = below + above + jnp.log(-jnp.expm1(-inverse))
        first, last = bins[None] < 0.5, bins[None] > self.num_bins - 1.5
        return jnp.where(first, below, jnp.where(last, above, inside))

    def log_mass(self, bins: Array) -> Array:
        """Returns the log of the mixture's mass in a bin, [*pixels]."""
        return jax.nn.logsumexp(self.log_weights + self.log_masses(bins), axis=0)

    def log_mass_of_bins(self) -> Array:
        """Returns the log of the mixture's mass in every bin, [*pixels, bins]."""
        parts = (self.log_weights, self.means, self.log_scales)
        weights, means, log_scales = (part[..., None] for part in parts)
        shape = (*self.means.shape[1:], self.num_bins)
        bins = jnp.broadcast_to(jnp.arange(self.num_bins, dtype=self.means.dtype), shape)
        return Channel(weights, means, log_scales, self.num_bins).log_mass(bins)

    def masses_of_bins(self) -> Array:
        """Returns the mixture's mass in every bin, [*pixels, bins], to about 1e-7.

        They are differences of the CDF, which takes a fraction of the time of exact log-masses.
        """
        edges = jnp.arange(1, self.num_bins, dtype=self.means.dtype)
        edges = edges.reshape(*(1,) * (self.means.ndim - 1), -1)
        parts = (jnp.exp(self.log_weights), self.means, jnp.exp(-self.log_scales))
        # A sum over an axis of components would take five times as long: it is not vectorised.
        cdf: Any = sum(
            weight * jax.nn.sigmoid((edges - mean) * inverse)
            for weight, mean, inverse in zip(*(part[..., None] for part in parts), strict=True)
        )
        ends = [(0, 0)] * (cdf.ndim - 1)
        first, last = (jnp.pad(cdf, [*ends, end]) for end in ((1, 0), (0, 1)))
        masses = last.at[..., -1].set(1.0) - first
        return jnp.maximum(masses, 0.0)


def sharpened(mixture: Mixture, temperature: Float[Array, ""]) -> Mixture:
    """Returns the mixture at a temperature T: weights to the power of 1 / T, and scales times T.

    A smaller T keeps to the likeliest modes. Multiplying z by T would go to the middle between two
    modes instead.
    """
    temperature = jnp.maximum(temperature, _LEAST_TEMPERATURE)
    return mixture._replace(
        logits=mixture.logits / temperature, log_scales=mixture.log_scales + jnp.log(temperature)
    )


def channels_of(mixture: Mixture, num_bins: int) -> Generator[Channel, Array | None, None]:
    """Yields each channel in order, given those before it; it is sent each one's bins [*pixels]."""
    log_weights = jax.nn.log_softmax(jnp.moveaxis(mixture.logits, -1, 0), axis=0)
    errors: list[Array] = []
    slopes = iter(jnp.moveaxis(mixture.slopes, -1, 0))
    of_channels = (jnp.moveaxis(of, (-1, -2), (0, 1)) for of in (mixture.means, mixture.log_scales))
    for means, log_scales in zip(*of_channels, strict=True):
        moved = means + sum(next(slopes)[None] * error for error in errors)
        channel = Channel(log_weights, moved, log_scales, num_bins)
        bins = yield channel
        assert bins is not None
        # What a channel tells of the component, by Bayes' rule.
        log_weights = jax.nn.log_softmax(log_weights + channel.log_masses(bins), axis=0)
        errors.append((bins + 0.5)[None] - means)


def walk(mixture: Mixture, num_bins: int, visit: Callable[[int, Channel], Array]) -> None:
    """Calls `visit` with each channel in order; it returns the channel's bins [*pixels]."""
    channels, bins = channels_of(mixture, num_bins), None
    for index in range(mixture.means.shape[-1]):
        bins = visit(index, channels.send(bins))


def bins_of(x: Pixels, num_bins: int) -> Pixels:
    """Returns the numbers of the bins that hold pixel values in [-1/2, 1/2), as floats."""
    return jnp.clip(jnp.floor((x + 0.5) * num_bins), 0, num_bins - 1)


def lower_edges(x: Pixels, num_bins: int) -> Pixels:
    """Returns the pixel values at which the bins that hold x begin; their gradient is zero."""
    return bins_of(x, num_bins) / num_bins - 0.5


def log_mass(mixture: Mixture, x: Pixels, num_bins: int) -> Float[Array, "*pixels"]:
    """Returns the log of the probability of the bins that hold x, in nats per pixel."""
    bins = bins_of(x, num_bins)
    found: list[Array] = []

    def visit(index: int, channel: Channel) -> Array:
        found.append(channel.log_mass(bins[..., index]))
        return bins[..., index]

    walk(mixture, num_bins, visit)
    total: Array = sum(found[1:], found[0])
    return total


def channel_given(
    mixture: Mixture, before: Float[Array, "*pixels earlier"], num_bins: int
) -> Channel:
    """Returns the mixture of a channel given those of earlier channels.

    Args:
        mixture: the mixture of each pixel.
        before: the bins of all channels before it, as floats; there are none for the first one.
        num_bins: 2^n.
    """
    channels = channels_of(mixture, num_bins)
    channel = next(channels)
    for bins in jnp.moveaxis(before, -1, 0):
        channel = channels.send(bins)
    return channel
