"""How the last, smallest image of a mixture flow is modelled: its pixels independently.

`two_passes` has the other way, in which each pixel depends on those before it.

Dimensions: B batch, H height, W width, C channels, V vector.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray

from flowvid.arrays import Images, Params
from flowvid.flows.bijectors.logistic_mixture import Mixture
from flowvid.flows.mixture.stage import StageNetwork

# From a pixel's mixtures, one per `Seen`, and its latents [..., C] to its values [..., C].
Draw = Callable[[Sequence[Mixture], Array], Array]
# From pixels' mixture and their places [..., C] in the flattened images to the lower edges of their
# bins. It is called in an order in which all that the mixture depends on is known.
Code = Callable[[Mixture, Array], Array]
Places = Int[Array, "batch height width channels"]


class Seen(NamedTuple):
    """What a stage sees of the context."""

    guesses: Sequence[Array] = ()  # at its pixels, each [B, H, W, C]
    features: Float[Array, "batch height width features"] | None = None  # at its pixels
    vector: Float[Array, "batch vector"] | None = None  # the same at all; of the last image alone


@runtime_checkable
class LastImage(Protocol):
    """A density over the last image [B, H, W, C]; its values are the lower edges of their bins."""

    def init(self, key: PRNGKeyArray, x: Images, seen: Seen) -> Params:
        """Returns parameters."""

    def mixtures(self, params: Params, x: Images, seen: Seen) -> Mixture:
        """Returns the mixture of each pixel of an image, [B, H, W, ...], given those before it."""

    def decode(self, params: Params, z: Images, seen: Sequence[Seen], draw: Draw) -> Images:
        """Returns the image of latents; `draw` gets one mixture for each of `seen`."""

    def coded(self, params: Params, places: Places, seen: Seen, code: Code) -> Images:
        """Returns the image that `code` gives, which it is asked for in parts."""


class IndependentPixels(NamedTuple):
    """Each pixel's mixture depends on what is seen, and on no other pixel."""

    network: StageNetwork

    def init(self, key: PRNGKeyArray, x: Images, seen: Seen) -> Params:
        """Returns the parameters of the stage's network."""
        found: Params = self.network.init(key, *self._inputs(x, seen))
        return found

    def mixtures(self, params: Params, x: Images, seen: Seen) -> Mixture:
        """Returns the mixtures [B, H, W, ...] of all pixels."""
        found: Mixture = self.network.apply(params, *self._inputs(x, seen))  # type: ignore[assignment]
        return found

    def decode(self, params: Params, z: Images, seen: Sequence[Seen], draw: Draw) -> Images:
        """Returns the image [B, H, W, C] of latents [B, H, W, C]."""
        return draw([self.mixtures(params, z, one) for one in seen], z)

    def coded(self, params: Params, places: Places, seen: Seen, code: Code) -> Images:
        """Returns the image that `code` gives, all of it at once."""
        return code(_mixtures(self, params, jnp.zeros(places.shape), seen), places)

    def _inputs(self, x: Images, seen: Seen) -> tuple[Array, Sequence[Array], Array | None]:
        maps = positions(x)
        if seen.vector is not None:
            same = seen.vector[:, None, None]
            same = jnp.broadcast_to(same, (*x.shape[:3], same.shape[-1]))
            maps = jnp.concatenate([maps, same], axis=-1)
        return maps, seen.guesses, seen.features


_mixtures = jax.jit(IndependentPixels.mixtures, static_argnums=0)


def positions(x: Images) -> Array:
    """Returns row and column of each pixel of an image from -1 to 1, [B, H, W, 2]."""
    batch, height, width, _ = x.shape
    rows, columns = jnp.meshgrid(
        jnp.linspace(-1, 1, height), jnp.linspace(-1, 1, width), indexing="ij"
    )
    return jnp.broadcast_to(jnp.stack([rows, columns], axis=-1), (batch, height, width, 2))
