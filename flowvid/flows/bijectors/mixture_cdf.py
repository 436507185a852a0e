"""Mixture CDFs over bins: from quantised pixels to standard normals, exactly, and back.

The CDF of a mixture of logistics (`logistic_mixture`) is linear inside a bin, so that the density
is that of uniform dequantisation and the noise costs nothing: bits per dimension are those of the
discrete image. The transformation z = Phi^-1(CDF(x)), channel after channel, is that of Flow++ (Ho
et al. 2019).

Dimensions: K components, C channels.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import log_ndtr, ndtri
from jaxtyping import Float

from flowvid.flows.bijectors.logistic_mixture import (
    Channel,
    Mixture,
    Pixels,
    bins_of,
    channels_of,
    log_mass,
    walk,
)

_FAR = -80.0  # the log of a tail's probability that float32 can still represent
_EXCLUDED = math.log(1e-6)  # a bin of so little mass given the label is not drawn with guidance
_ROOM = 2.0**9  # times the precision, below the end of a bin: inside it, also after rounding


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

    def visit(index: int, channel: Channel) -> Array:
        at, part = bins[..., index], inside[..., index]
        lower, upper = channel.log_tails(at), channel.log_tails(at + 1)
        below, above = (_log_between(*logs, part) for logs in zip(lower, upper, strict=True))
        log_tails.append((below, above))
        return at

    walk(mixture, num_bins, visit)
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
        moved = means + jnp.sum(slopes[:, None] * errors, axis=0)
        channel = Channel(log_weights, moved, log_scales, num_bins)
        bins, part, mass = _at_quantile(channel, log_u, log_v)
        log_weights = jax.nn.log_softmax(log_weights + channel.log_masses(bins), axis=0)
        errors = errors.at[index].set((bins + 0.5)[None] - means)
        return (log_weights, errors), ((bins + part) / num_bins - 0.5, mass)

    of_channels = (mixture.means, mixture.log_scales)
    means, log_scales = (jnp.moveaxis(part, (-1, -2), (0, 1)) for part in of_channels)
    log_below, log_above = (jnp.moveaxis(part, -1, 0) for part in (log_ndtr(z), log_ndtr(-z)))
    logits = jnp.moveaxis(mixture.logits, -1, 0)
    first = (jax.nn.log_softmax(logits, axis=0), jnp.zeros_like(means))
    given = (jnp.arange(count), means, log_scales, jnp.stack(slopes), log_below, log_above)
    _, (x, masses) = lax.scan(of_channel, first, given)
    log_det = -jnp.sum(masses, axis=0) - _log_bins_minus_normal(z, num_bins)
    return jnp.moveaxis(x, 0, -1), log_det


def drawn(mixture: Mixture, uniform: Pixels, num_bins: int) -> Pixels:
    """Returns pixel values that follow the mixture, each in the middle of its bin.

    `inverse` has the same distribution, and takes several times as long: it finds the one value of
    each z. Here the first part of a pixel's first uniform number chooses the component of all of
    its channels, and the rest a value of the first one.

    Args:
        mixture: the mixture of each pixel.
        uniform: random numbers in [0, 1), one per channel.
        num_bins: 2^n.
    """
    uniform = jnp.moveaxis(uniform, -1, 0)
    weights = jax.nn.softmax(jnp.moveaxis(mixture.logits, -1, 0), axis=0)
    ends = jnp.cumsum(weights, axis=0)
    at = uniform[0] * ends[-1]
    passed = ends[:-1] <= at[None]

    def of_chosen(part: Array) -> Array:
        """Returns the entries of an array [K, ..., *pixels] at each pixel's component."""
        found: Array = part[0]
        for here, value in zip(passed, part[1:], strict=True):
            found = jnp.where(here, value, found)
        return found

    tiny, eps = jnp.finfo(at.dtype).tiny, jnp.finfo(at.dtype).eps
    rest = 1 - (of_chosen(ends) - at) / jnp.maximum(of_chosen(weights), tiny)
    parts = jnp.clip(uniform.at[0].set(rest), eps, 1 - eps)
    means, log_scales = (
        of_chosen(jnp.moveaxis(part, (-2, -1), (0, 1)))
        for part in (mixture.means, mixture.log_scales)
    )
    values = means + jnp.exp(log_scales) * jax.scipy.special.logit(parts)
    slopes = iter(jnp.moveaxis(mixture.slopes, -1, 0))
    found: list[Array] = []
    errors: list[Array] = []
    for mean, value in zip(means, values, strict=True):
        moved = value + sum(next(slopes) * error for error in errors)
        found.append(jnp.clip(jnp.floor(moved), 0, num_bins - 1))
        errors.append(found[-1] + 0.5 - mean)
    return (jnp.stack(found, axis=-1) + 0.5) / num_bins - 0.5


def guided(
    mixture: Mixture, unguided: Mixture, scale: Float[Array, ""], uniform: Pixels, num_bins: int
) -> Pixels:
    """Returns pixel values that follow guided masses, each in the middle of its bin.

    Channel after channel, the mass of each bin is that of `unguided` times the power `scale` of the
    ratio of `mixture`'s to it, normalised over bins. A scale of 1 has the masses of `mixture`. Bins
    that `mixture` all but excludes stay excluded, so that a ratio of two tiny masses cannot win.

    Args:
        mixture: given the label.
        unguided: the same pixels', without the label.
        scale: of the difference of their log-masses.
        uniform: random numbers in [0, 1), one per channel: quantiles, given the channels before.
        num_bins: 2^n.
    """
    both = [channels_of(one, num_bins) for one in (mixture, unguided)]
    bins: Array | None = None
    found = []
    for index in range(uniform.shape[-1]):
        with_label, without = (channels.send(bins).log_mass_of_bins() for channels in both)
        log_guided = without + scale * (with_label - without)
        log_guided = jnp.where(with_label < _EXCLUDED, -jnp.inf, log_guided)
        below = jnp.cumsum(jax.nn.softmax(log_guided), axis=-1)
        # The last bin takes what rounding leaves of the sum.
        passed = below[..., :-1] <= uniform[..., index : index + 1]
        bins = jnp.sum(passed, axis=-1).astype(uniform.dtype)
        found.append(bins)
    return (jnp.stack(found, axis=-1) + 0.5) / num_bins - 0.5


def _at_quantile(channel: Channel, log_u: Array, log_v: Array) -> tuple[Array, Array, Array]:
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
