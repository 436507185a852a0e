"""Mixture CDFs over bins: from quantised pixels to standard normals, exactly, and back.

A pixel's channels have a mixture of K logistics, discretised to the 2^n bins of its values, as in
PixelCNN++ (Salimans et al. 2017). The CDF is linear inside a bin, so that the density is that of
uniform dequantisation and the noise costs nothing: bits per dimension are those of the discrete
image. The transformation z = Phi^-1(CDF(x)), channel after channel, is that of Flow++ (Ho et al.
2019).

Positions, means and scales are in bins: bin b covers [b, b + 1), and begins at the pixel value
x = b / 2^n - 1/2. The first and the last bin hold the tails of the logistics.

Dimensions: K components, C channels.
"""

import math
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import log_ndtr, ndtri
from jaxtyping import Float

Pixels = Float[Array, "*pixels channels"]

_FAR = -80.0  # the log of a tail's probability that float32 can still represent
_LEAST_TEMPERATURE = 1e-3
_EXCLUDED = math.log(1e-6)  # a bin of so little mass given the label is not drawn with guidance
_ROOM = 2.0**9  # times the precision, below the end of a bin: inside it, also after rounding


class Mixture(NamedTuple):
    """The mixtures of an image's pixels.

    The weights are those of whole pixels, so that their channels depend on each other. The mean of
    a channel also moves with how far the earlier channels are from their means.
    """

    logits: Float[Array, "*pixels components"]
    means: Float[Array, "*pixels components channels"]
    log_scales: Float[Array, "*pixels components channels"]
    slopes: Float[Array, "*pixels pairs"]  # C (C - 1) / 2: those of channel 1, then of 2, ...


class _Channel(NamedTuple):
    """The mixture of one channel [*pixels, K], given the channels before it."""

    log_weights: Array  # normalised
    means: Array
    log_scales: Array
    num_bins: int

    def log_tails(self, edge: Array) -> tuple[Array, Array]:
        """Returns log F and log(1 - F) at the lower edge of a bin [*pixels], as a float.

        Both are computed for themselves, so that neither loses digits where it is small.
        """
        scaled = (edge[..., None] - self.means) * jnp.exp(-self.log_scales)
        below, above = (
            jax.nn.logsumexp(self.log_weights + jax.nn.log_sigmoid(sign * scaled), axis=-1)
            for sign in (1, -1)
        )
        first, last = edge < 0.5, edge > self.num_bins - 0.5
        return (
            jnp.where(first, -jnp.inf, jnp.where(last, 0.0, below)),
            jnp.where(first, 0.0, jnp.where(last, -jnp.inf, above)),
        )

    def log_masses(self, bins: Array) -> Array:
        """Returns the log of each component's mass in a bin, without its weight, [*pixels, K].

        With the sigmoid s, s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)), which loses no digits.
        """
        inverse = jnp.exp(-self.log_scales)
        lower = (bins[..., None] - self.means) * inverse
        below = jax.nn.log_sigmoid(lower + inverse)
        above = jax.nn.log_sigmoid(-lower)
        inside = below + above + jnp.log(-jnp.expm1(-inverse))
        first, last = bins[..., None] < 0.5, bins[..., None] > self.num_bins - 1.5
        return jnp.where(first, below, jnp.where(last, above, inside))

    def log_mass(self, bins: Array) -> Array:
        """Returns the log of the mixture's mass in a bin, [*pixels]."""
        return jax.nn.logsumexp(self.log_weights + self.log_masses(bins), axis=-1)

    def log_mass_of_bins(self) -> Array:
        """Returns the log of the mixture's mass in every bin, [*pixels, bins]."""
        parts = (self.log_weights, self.means, self.log_scales)
        weights, means, log_scales = (part[..., None, :] for part in parts)
        shape = (*self.means.shape[:-1], self.num_bins)
        bins = jnp.broadcast_to(jnp.arange(self.num_bins, dtype=self.means.dtype), shape)
        return _Channel(weights, means, log_scales, self.num_bins).log_mass(bins)


def sharpened(mixture: Mixture, temperature: Float[Array, ""]) -> Mixture:
    """Returns the mixture at a temperature T: weights to the power of 1 / T, and scales times T.

    A smaller T keeps to the likeliest modes. Multiplying z by T would go to the middle between two
    modes instead.
    """
    temperature = jnp.maximum(temperature, _LEAST_TEMPERATURE)
    return mixture._replace(
        logits=mixture.logits / temperature, log_scales=mixture.log_scales + jnp.log(temperature)
    )


def _channels(mixture: Mixture, num_bins: int) -> Generator[_Channel, Array | None, None]:
    """Yields each channel in order, given those before it; it is sent each one's bins [*pixels]."""
    log_weights = jax.nn.log_softmax(mixture.logits)
    errors: list[Array] = []
    slopes = iter(jnp.moveaxis(mixture.slopes, -1, 0))
    for index in range(mixture.means.shape[-1]):
        means = mixture.means[..., index]
        moved = means + sum(next(slopes)[..., None] * error for error in errors)
        channel = _Channel(log_weights, moved, mixture.log_scales[..., index], num_bins)
        bins = yield channel
        assert bins is not None
        # What a channel tells of the component, by Bayes' rule.
        log_weights = jax.nn.log_softmax(log_weights + channel.log_masses(bins))
        errors.append((bins + 0.5)[..., None] - means)


def _walk(mixture: Mixture, num_bins: int, visit: Callable[[int, _Channel], Array]) -> None:
    """Calls `visit` with each channel in order; it returns the channel's bins [*pixels]."""
    channels, bins = _channels(mixture, num_bins), None
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

    def visit(index: int, channel: _Channel) -> Array:
        found.append(channel.log_mass(bins[..., index]))
        return bins[..., index]

    _walk(mixture, num_bins, visit)
    total: Array = sum(found[1:], found[0])
    return total


def _log_between(log_a: Array, log_b: Array, part: Array) -> Array:
    """Returns log((1 - part) a + part b), finite where it is zero."""
    largest = jnp.maximum(log_a, log_b)
    mean = (1 - part) * jnp.exp(log_a - largest) + part * jnp.exp(log_b - largest)
    return largest + jnp.log(jnp.maximum(mean, 1e-30))


@jax.custom_jvp
def _normal_quantile(log_p: Array) -> Array:
    """Returns Phi^-1(p) for p up to 1/2, however small p is."""
    near = ndtri(jnp.exp(jnp.maximum(log_p, _FAR)))
    # log Phi(z) has a slope of about -z far out: three steps of Newton's method are enough.
    log_far = jnp.minimum(log_p, _FAR)
    far = -jnp.sqrt(-2 * log_far)
    for _ in range(3):
        far += (log_ndtr(far) - log_far) / far
    return jnp.where(log_p > _FAR, near, far)


@_normal_quantile.defjvp
def _normal_quantile_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    z = _normal_quantile(*primals)
    log_slope = primals[0] + 0.5 * (math.log(2 * math.pi) + z**2)  # of p / N(z)
    return z, jnp.exp(log_slope) * tangents[0]


def forward(mixture: Mixture, x: Pixels, num_bins: int) -> tuple[Pixels, Float[Array, "*pixels"]]:
    """Returns z, independent standard normals under the mixture, and log|det dz/dx| per pixel.

    Args:
        mixture: the mixture of each pixel.
        x: pixel values in [-1/2, 1/2).
        num_bins: 2^n.
    """
    bins = bins_of(x, num_bins)
    inside = jnp.clip((x + 0.5) * num_bins - bins, 0.0, 1.0)
    log_tails: list[tuple[Array, Array]] = []  # of the CDF, and of one minus it

    def visit(index: int, channel: _Channel) -> Array:
        at, part = bins[..., index], inside[..., index]
        lower, upper = channel.log_tails(at), channel.log_tails(at + 1)
        below, above = (_log_between(*logs, part) for logs in zip(lower, upper, strict=True))
        log_tails.append((below, above))
        return at

    _walk(mixture, num_bins, visit)
    log_u, log_v = (jnp.stack(logs, axis=-1) for logs in zip(*log_tails, strict=True))
    smaller = _normal_quantile(jnp.minimum(log_u, log_v))
    z = jnp.where(log_u < log_v, smaller, -smaller)
    return z, log_mass(mixture, x, num_bins) + _log_bins_minus_normal(z, num_bins)


def _log_bins_minus_normal(z: Pixels, num_bins: int) -> Float[Array, "*pixels"]:
    """Returns the log-det of z, but for the mass of x's bin: the sum of log(2^n) - log N(z)."""
    terms = math.log(num_bins) + 0.5 * (math.log(2 * math.pi) + z**2)
    return jnp.sum(terms, axis=-1)


def inverse(mixture: Mixture, z: Pixels, num_bins: int) -> tuple[Pixels, Float[Array, "*pixels"]]:
    """Returns x of `forward`, and log|det dx/dz| per pixel.

    The channels are scanned, because programs for each of them take longer to compile.
    """
    count = z.shape[-1]
    of_pairs = iter(jnp.moveaxis(mixture.slopes, -1, 0))
    none = jnp.zeros_like(z[..., 0])
    # [C, C, *pixels]: of each channel's mean by the error of each earlier one.
    slopes = [
        jnp.stack([next(of_pairs) if earlier < channel else none for earlier in range(count)])
        for channel in range(count)
    ]

    def of_channel(known: tuple[Array, Array], given: tuple[Array, ...]) -> tuple[Any, Any]:
        log_weights, errors = known
        index, means, log_scales, slopes, log_u, log_v = given
        moved = means + jnp.sum(slopes[..., None] * errors, axis=0)
        channel = _Channel(log_weights, moved, log_scales, num_bins)
        bins, part, mass = _at_quantile(channel, log_u, log_v)
        log_weights = jax.nn.log_softmax(log_weights + channel.log_masses(bins))
        errors = errors.at[index].set((bins + 0.5)[..., None] - means)
        return (log_weights, errors), ((bins + part) / num_bins - 0.5, mass)

    parts = (mixture.means, mixture.log_scales, log_ndtr(z), log_ndtr(-z))
    means, log_scales, log_below, log_above = (jnp.moveaxis(part, -1, 0) for part in parts)
    first = (jax.nn.log_softmax(mixture.logits), jnp.zeros_like(means))
    given = (jnp.arange(count), means, log_scales, jnp.stack(slopes), log_below, log_above)
    _, (x, masses) = lax.scan(of_channel, first, given)
    log_det = -jnp.sum(masses, axis=0) - _log_bins_minus_normal(z, num_bins)
    return jnp.moveaxis(x, 0, -1), log_det


def guided(
    mixture: Mixture, unguided: Mixture, scale: Float[Array, ""], z: Pixels, num_bins: int
) -> Pixels:
    """Returns the pixel values of z under guided masses, each in the middle of its bin.

    Channel after channel, the mass of each bin is that of `unguided` times the power `scale` of the
    ratio of `mixture`'s to it, normalised over bins. A scale of 1 has the masses of `mixture`. Bins
    that `mixture` all but excludes stay excluded, so that a ratio of two tiny masses cannot win.

    Args:
        mixture: given the label.
        unguided: the same pixels', without the label.
        scale: of the difference of their log-masses.
        z: standard normal.
        num_bins: 2^n.
    """
    u = jax.scipy.special.ndtr(z)
    both = [_channels(one, num_bins) for one in (mixture, unguided)]
    bins: Array | None = None
    found = []
    for index in range(z.shape[-1]):
        with_label, without = (channels.send(bins).log_mass_of_bins() for channels in both)
        log_guided = without + scale * (with_label - without)
        log_guided = jnp.where(with_label < _EXCLUDED, -jnp.inf, log_guided)
        below = jnp.cumsum(jax.nn.softmax(log_guided), axis=-1)
        # The last bin takes what rounding leaves of the sum.
        bins = jnp.sum(below[..., :-1] <= u[..., index : index + 1], axis=-1).astype(z.dtype)
        found.append(bins)
    return (jnp.stack(found, axis=-1) + 0.5) / num_bins - 0.5


def _at_quantile(channel: _Channel, log_u: Array, log_v: Array) -> tuple[Array, Array, Array]:
    """Returns the bin at which the CDF reaches u, where in the bin, and the log of its mass.

    Bisection finds the bin, in which the CDF is linear. `log_v` is that of 1 - u.
    """
    num_bins, lower_half = channel.num_bins, log_u < log_v

    def halved(step: Array, at: Array) -> Array:
        """Moves `at` by half of the last step, if the CDF does not pass u there."""
        edge = at + num_bins * 0.5 ** (step + 1)
        below, above = channel.log_tails(edge)
        return jnp.where(jnp.where(lower_half, below <= log_u, above >= log_v), edge, at)

    at = lax.fori_loop(0, num_bins.bit_length() - 1, halved, jnp.zeros_like(log_u))
    below, _ = channel.log_tails(at)
    _, above = channel.log_tails(at + 1)
    mass = channel.log_mass(at)
    part = jnp.where(
        lower_half,
        jnp.exp(log_u - mass) - jnp.exp(below - mass),
        1 - (jnp.exp(log_v - mass) - jnp.exp(above - mass)),
    )
    return at, jnp.clip(part, 0.0, 1 - _ROOM * jnp.finfo(part.dtype).eps), mass
