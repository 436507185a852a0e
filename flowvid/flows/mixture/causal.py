"""A causal transformer over the cells of an image: each pixel depends on all earlier ones.

The image is cut into cells of 2x2 pixels, in raster order. A transformer computes features of each
cell from the cells before it; a small network for each of the cell's four pixels, in raster order,
computes its mixture from these features and from the pixels of the cell before it. Nothing is
independent, so an object that is begun is gone on with, and the ground keeps its colours.

To sample, cells are drawn one after another; keys and values of attention are kept, so that all
cells together cost about as much as one evaluation of the density.

`two_passes` draws the last image of a mixture flow by two of these transformers.

Dimensions: B batch, H height, W width, C channels, h height and w width in cells, N = h w cells, T
cells at once, D width of the transformer, V what is seen, P pixels of a cell that are modelled.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Float, PRNGKeyArray

from flowvid.arrays import CHANNELS, Images, Params
from flowvid.flows.bijectors import space_to_depth
from flowvid.flows.bijectors.logistic_mixture import Mixture, lower_edges
from flowvid.flows.mixture import cells, phases
from flowvid.flows.mixture.attention import HEAD_WIDTH, Block, PixelNetwork, SeenByCells, Tokens
from flowvid.flows.mixture.last_image import Code, Draw, Places, Seen
from flowvid.flows.mixture.stage import as_mixture, num_outputs


@dataclass(frozen=True)
class CausalPixels:
    """Every pixel's mixture depends on all pixels before it; a `LastImage`.

    Attributes:
        FIRST: the first of a cell's pixels that is modelled; those before it are known from the
            start, in all cells.
        width: D, a multiple of 32 or below 32.
        depth: blocks of the transformer.
        components: of a pixel's mixture.
        num_bins: 2^n.
        dtype: the type of the networks' products; by default that of the parameters.
    """

    FIRST: ClassVar[int] = 0

    width: int
    depth: int
    components: int
    num_bins: int
    dtype: DTypeLike | None = None

    def tokens(self, x: Images) -> Array:
        """Returns what the transformer reads of each cell, [B, N, features]."""
        own = space_to_depth(x)
        # No neighbour of a row's first cells is the last cell of the row above.
        return jnp.concatenate(
            [cells.with_positions(cells.near(own), x), cells.before(own)], axis=-1
        )

    def token_size(self, count: int) -> int:
        """Returns the features of a token of an image of so many cells."""
        return 5 * cells.CELL + 4 * cells.FREQUENCIES

    def anchors(self, x: Images) -> list[Array]:
        """Returns guesses at each pixel from what is known before it, each [B, H, W, C]."""
        return cells.anchors(x)

    @property
    def _modelled(self) -> range:
        return range(self.FIRST, cells.PIXELS)

    @property
    def _block(self) -> Block:
        return Block(self.width, self.dtype)

    @property
    def _pixel(self) -> PixelNetwork:
        return PixelNetwork(self.width, num_outputs(self.components), self.dtype)

    def init(self, key: PRNGKeyArray, x: Images, seen: Seen) -> Params:
        """Returns parameters; those of blocks and of pixels are stacked."""
        keys = jax.random.split(key, 3)
        own = _at_cell(_seen_by_cells(x, seen), 0)
        tokens = jnp.zeros((len(x), 1, self.width))
        known = jnp.zeros((1, self.width + 5 * cells.CELL))
        kept = jax.tree.map(lambda part: part[0], self._nothing_kept(x))

        def of_block(key: PRNGKeyArray) -> Params:
            found: Params = self._block.init(key, tokens, own, kept, 0)
            return found

        return {
            "cells": self._embedding.init(keys[0], self.tokens(x)),
            "blocks": jax.vmap(of_block)(jax.random.split(keys[1], self.depth)),
            "pixels": jax.vmap(lambda k: self._pixel.init(k, known))(
                jax.random.split(keys[2], len(self._modelled))
            ),
        }

    @property
    def _embedding(self) -> nn.Dense:
        return nn.Dense(self.width)

    def _nothing_kept(self, x: Images) -> Any:
        """Returns the keys and values of all blocks, stacked, before any cell is seen."""
        heads = max(self.width // HEAD_WIDTH, 1)
        shape = (self.depth, len(x), _num_cells(x), heads, self.width // heads)
        return jnp.zeros(shape), jnp.zeros(shape)

    def _features(
        self, params: Params, tokens: Array, vectors: SeenByCells, kept: Any, first: Array | int
    ) -> tuple[Tokens, Any]:
        """Returns the features of cells [B, T, D], and what each block keeps, stacked."""

        def body(x: Array, block: Any) -> tuple[Array, Any]:
            of_block, of_past = block
            found: Any = self._block.apply(of_block, x, vectors, of_past, first)
            return found

        x: Any = self._embedding.apply(params["cells"], tokens)
        x, kept = lax.scan(body, x, (params["blocks"], kept))
        return x * lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6), kept

    def mixtures(self, params: Params, x: Images, seen: Seen) -> Mixture:
        """Returns the mixtures of all pixels, [B, H, W, ...], in one pass."""
        mixtures = self.mixtures_of_cells(params, x, seen)
        return jax.tree.map(lambda part: phases.merge(dict(enumerate(part))), mixtures)

    def mixtures_of_cells(self, params: Params, x: Images, seen: Seen) -> Mixture:
        """Returns the mixtures of each cell's modelled pixels, [P, B, h, w, ...]."""
        own = space_to_depth(x)
        near, by_cells = cells.near(own), _seen_by_cells(x, seen)
        features, _ = self._features(params, self.tokens(x), by_cells, self._nothing_kept(x), 0)
        features = features.reshape(*own.shape[:3], self.width)
        known = jnp.stack([cells.known(features, near, own, pixel) for pixel in self._modelled])
        outputs: Any = jax.vmap(self._pixel.apply)(params["pixels"], known)
        anchors = [jnp.stack(phases.split(one)[self.FIRST :]) for one in self.anchors(x)]
        return as_mixture(outputs, anchors, self.components, self.num_bins)

    def decode(
        self,
        params: Params,
        z: Images,
        seen: Sequence[Seen],
        draw: Draw,
        begun: Images | None = None,
    ) -> Images:
        """Returns the image [B, H, W, C] of latents [B, H, W, C], cell by cell.

        `begun` is an image in which the pixels that are not modelled have their values.
        """
        vectors = [_seen_by_cells(z, one) for one in seen]

        def cell(carry: Any, number: Array) -> tuple[Any, None]:
            x, values, kept = carry
            found = [
                self._of_cell(params, x, vector, past, number)
                for vector, past in zip(vectors, kept, strict=True)
            ]
            features, kept = zip(*found, strict=True)

            def pixel(carry: Any, of_pixel: Any) -> tuple[Any, None]:
                x, values = carry
                which, own_params = of_pixel
                at = _place(z, number, which)
                mixtures = [self._of_pixel(own_params, x, one, number, which) for one in features]
                drawn = draw(mixtures, cells.at(z, *at)[:, 0, 0])
                edge = lower_edges(drawn, self.num_bins)
                return (_put(x, edge, at), _put(values, drawn, at)), None

            of_pixels = (jnp.arange(self.FIRST, cells.PIXELS), params["pixels"])
            (x, values), _ = lax.scan(pixel, (x, values), of_pixels)
            return (x, values, kept), None

        values = jnp.zeros_like(z) if begun is None else begun
        edges = lower_edges(values, self.num_bins)
        start = (edges, values, tuple(self._nothing_kept(z) for _ in seen))
        (_, values, _), _ = lax.scan(cell, start, jnp.arange(_num_cells(z)))
        return values

    def coded(
        self,
        params: Params,
        places: Places,
        seen: Seen,
        code: Code,
        begun: Images | None = None,
    ) -> Images:
        """Returns the image that `code` gives, pixel by pixel; its programs are compiled apart.

        `begun` is an image in which the pixels that are not modelled have their lower edges.
        """
        found = jnp.zeros(places.shape) if begun is None else begun
        vector, kept = _seen_by_cells(found, seen), self._nothing_kept(found)
        of_pixels = [
            (which, jax.tree.map(lambda p, i=i: p[i], params["pixels"]))
            for i, which in enumerate(jnp.arange(self.FIRST, cells.PIXELS))
        ]
        for number in jnp.arange(_num_cells(found)):
            features, kept = _of_cell(self, params, found, vector, kept, number)
            for which, own_params in of_pixels:
                mixture = _of_pixel(self, own_params, found, features, number, which)
                at = _place(found, number, which)
                coded = code(mixture, cells.at(places, *at)[:, 0, 0])
                found = _put(found, coded, at)
        return found

    def _of_cell(
        self, params: Params, x: Images, vectors: SeenByCells, kept: Any, number: Array
    ) -> tuple[Array, Any]:
        """Returns the features of a cell [B, 1, D] of an image that is known up to it."""
        token = lax.dynamic_slice_in_dim(self.tokens(x), number, 1, axis=1)
        return self._features(params, token, _at_cell(vectors, number), kept, number)

    def _of_pixel(
        self, params: Params, x: Images, features: Array, number: Array, which: Array
    ) -> Mixture:
        """Returns the mixture [B, ...] of a cell's pixel, of an image that is known up to it.

        Args:
            params: of this pixel's network.
            x: the image.
            features: of the cell.
            number: the cell's.
            which: the pixel's, in the cell.
        """
        own = space_to_depth(x)
        row, column = number // own.shape[2], number % own.shape[2]
        near = cells.at(cells.near(own), row, column)
        known = cells.known(features[:, None], near, cells.at(own, row, column), which)[:, 0, 0]
        outputs: Any = self._pixel.apply(params, known)
        at = _place(x, number, which)
        anchors = [cells.at(anchor, *at)[:, 0, 0] for anchor in self.anchors(x)]
        return as_mixture(outputs, anchors, self.components, self.num_bins)

    def flop(self, pixels: int, seen: int) -> float:
        """Returns the floating-point operations of the density of an image of so many pixels."""
        count, width = pixels // cells.PIXELS, self.width
        block = 12 * width**2 + 2 * width * count + 6 * width * seen
        embedding = width * self.token_size(count)
        pixel = width * (width + 5 * cells.CELL) + width**2 + width * num_outputs(self.components)
        return 2.0 * count * (self.depth * block + embedding + len(self._modelled) * pixel)

    def activation_size(self, pixels: int) -> int:
        """Returns the numbers that the backward pass of one image keeps."""
        count, width = pixels // cells.PIXELS, self.width
        block = 24 * width + 2 * count * math.ceil(width / HEAD_WIDTH)
        pixel = 6 * width + 5 * cells.CELL + 12 * CHANNELS * (self.components + 1)
        return count * (self.depth * block + len(self._modelled) * pixel)


_of_cell = jax.jit(CausalPixels._of_cell, static_argnums=0)
_of_pixel = jax.jit(CausalPixels._of_pixel, static_argnums=0)


def _num_cells(x: Images) -> int:
    return x.shape[1] * x.shape[2] // cells.PIXELS


def _place(x: Images, number: Array, which: Array) -> tuple[Array, Array]:
    """Returns row and column of a pixel of a cell."""
    columns = x.shape[2] // 2
    return 2 * (number // columns) + which // 2, 2 * (number % columns) + which % 2


def _put(image: Images, pixel: Array, at: tuple[Array, Array]) -> Images:
    """Returns an image with other values [B, C] at a place."""
    return lax.dynamic_update_slice(image, pixel[:, None, None], (0, *at, 0))


def _seen_by_cells(x: Images, seen: Seen) -> SeenByCells:
    """Returns what is seen at each cell, [B, N, V], or, where it is the same at all, [B, 1, V]."""
    if seen.features is None:
        return None if seen.vector is None else seen.vector[:, None]
    height, width = x.shape[1] // 2, x.shape[2] // 2
    return rearrange(seen.features, "b (h r) (w c) k -> b (h w) (r c k)", h=height, w=width)


def _at_cell(seen: SeenByCells, number: Array | int) -> Float[Array, "batch one seen"] | None:
    """Returns what is seen at one cell, [B, 1, V]."""
    if seen is None or seen.shape[1] == 1:
        return seen
    return lax.dynamic_slice_in_dim(seen, number, 1, axis=1)
