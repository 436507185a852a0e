"""The last image of a mixture flow in two passes: every second row and column, then all the rest.

The first pass draws phase 0 of the last image, a quarter of its pixels, cell by cell by a causal
transformer (`causal`). The second one draws the other three pixels of each cell of the last image,
by a transformer of its own, which sees phase 0 everywhere. So where objects are is decided before
their shapes are, and yet every pixel depends on all that are drawn before it.

Dimensions: B batch, H height, W width, C channels, h height and w width in cells, N = h w cells, V
what is seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jaxtyping import PRNGKeyArray, Shaped

from flowvid.arrays import CHANNELS, Images, Params
from flowvid.flows.bijectors.logistic_mixture import Mixture
from flowvid.flows.mixture import phases
from flowvid.flows.mixture.causal import CausalPixels
from flowvid.flows.mixture.last_image import Code, Draw, Places, Seen
from flowvid.flows.mixture.phases import Phase

_AROUND = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]


@dataclass(frozen=True)
class RestOfCells(CausalPixels):
    """The pixels of each cell but the first: each depends on those before it, and on phase 0."""

    FIRST = 1

    def tokens(self, x: Images) -> Array:
        """Returns what the transformer reads of each cell, [B, N, features].

        Besides what `CausalPixels` reads, it is phase 0 around the cell, and the whole of phase 0
        as one vector. A dense layer reads it with a weight of its own for each pixel, so that the
        tokens of N cells have N^2 numbers; the last image is small.
        """
        phase = _phase(x)
        around = jnp.concatenate([phases.moved(phase, *place) for place in _AROUND], axis=-1)
        around = rearrange(around, "b h w c -> b (h w) c")
        whole = rearrange(phase, "b h w c -> b 1 (h w c)")
        whole = jnp.broadcast_to(whole, (*around.shape[:2], whole.shape[2]))
        return jnp.concatenate([super().tokens(x), 4 * around, 4 * whole], axis=-1)

    def token_size(self, count: int) -> int:
        """Returns the features of a token of an image of so many cells."""
        return super().token_size(count) + (len(_AROUND) + count) * CHANNELS

    def anchors(self, x: Images) -> list[Array]:
        """Returns guesses at each pixel, the last one from the pixels of phase 0 next to it."""
        phase = _phase(x)
        right, below, both = (phases.moved(phase, *place) for place in ((0, 1), (1, 0), (1, 1)))
        of_phases = [phase, (phase + right) / 2, (phase + below) / 2]
        of_phases.append((phase + right + below + both) / 4)
        return [*super().anchors(x), phases.merge(dict(enumerate(of_phases)))]


class TwoPasses(NamedTuple):
    """Each pixel depends on all those before it, phase 0 being the first; a `LastImage`.

    The sides of the image are divisible by 4.
    """

    first: CausalPixels
    rest: RestOfCells

    def init(self, key: PRNGKeyArray, x: Images, seen: Seen) -> Params:
        """Returns the parameters of both passes."""
        of_first, of_rest = jax.random.split(key)
        return {
            "first": self.first.init(of_first, _phase(x), seen),
            "rest": self.rest.init(of_rest, x, seen),
        }

    def mixtures(self, params: Params, x: Images, seen: Seen) -> Mixture:
        """Returns the mixtures of all pixels, [B, H, W, ...], both passes at once."""
        first = self.first.mixtures(params["first"], _phase(x), seen)
        rest = self.rest.mixtures_of_cells(params["rest"], x, seen)
        return jax.tree.map(
            lambda own, others: phases.merge({0: own} | dict(enumerate(others, start=1))),
            first,
            rest,
        )

    def decode(self, params: Params, z: Images, seen: Sequence[Seen], draw: Draw) -> Images:
        """Returns the image [B, H, W, C] of latents [B, H, W, C], one pass after the other."""
        first = self.first.decode(params["first"], _phase(z), seen, draw)
        return self.rest.decode(params["rest"], z, seen, draw, _begun(first))

    def coded(self, params: Params, places: Places, seen: Seen, code: Code) -> Images:
        """Returns the image that `code` gives, one pass after the other."""
        first = self.first.coded(params["first"], _phase(places), seen, code)
        return self.rest.coded(params["rest"], places, seen, code, _begun(first))

    def flop(self, pixels: int, seen: int) -> float:
        """Returns the floating-point operations of the density of an image of so many pixels."""
        return self.first.flop(pixels // 4, seen) + self.rest.flop(pixels, seen)

    def activation_size(self, pixels: int) -> int:
        """Returns the numbers that the backward pass of one image keeps."""
        return self.first.activation_size(pixels // 4) + self.rest.activation_size(pixels)


def _phase(x: Shaped[Array, "batch height width channels"]) -> Array:
    """Returns phase 0 of an image, its latents or the places of its pixels."""
    return phases.split(x)[0]


def _begun(first: Phase) -> Images:
    """Returns an image of which phase 0 is known, and all else is zero."""
    return phases.merge({0: first} | dict.fromkeys((1, 2, 3), jnp.zeros_like(first)))
