"""The networks of `causal`: blocks of attention to earlier cells, and dense layers for pixels.

Dimensions: B batch, N cells of an image, T cells at once, D width, V what is seen.
"""

import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Float

from flowvid.flows.scale_and_shift import OF_VECTOR

HEAD_WIDTH = 32  # of attention
_ZEROS = nn.initializers.zeros

Tokens = Float[Array, "batch cells width"]
Kept = Float[Array, "batch all_cells heads head_width"]  # keys or values
# What is seen at each cell, or, with one entry, alike at all of them; None if nothing is.
SeenByCells = Float[Array, "batch cells_or_one seen"] | None


class Block(nn.Module):
    """Attention to earlier cells and two dense layers, scaled and shifted by what is seen."""

    width: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Tokens, seen: SeenByCells, kept: tuple[Kept, Kept], first: Array | int
    ) -> tuple[Tokens, tuple[Kept, Kept]]:
        """Returns the features of cells `first` to `first` + T - 1, and the keys and values kept.

        Args:
            x: features of these cells, [B, T, D].
            seen: what is seen, [B, T or 1, V], or None.
            kept: keys and values of the cells before them, [B, N, heads, D / heads].
            first: the number of the first of these cells.
        """
        parts = [jnp.zeros(())] * 6
        if seen is not None:
            of_seen = nn.Dense(6 * self.width, kernel_init=_ZEROS, name=OF_VECTOR)(seen)
            parts = jnp.split(of_seen, 6, axis=-1)
        normal = nn.LayerNorm(use_bias=False, use_scale=False)
        y = (1 + parts[0]) * normal(x) + parts[1]
        heads = kept[0].shape[2]
        qkv = nn.Dense(3 * self.width, use_bias=False, dtype=self.dtype)(y)
        query, *new = rearrange(qkv, "b t (part heads d) -> part b t heads d", part=3, heads=heads)
        key, value = (
            lax.dynamic_update_slice_in_dim(old, part.astype(old.dtype), first, axis=1)
            for old, part in zip(kept, new, strict=True)
        )
        at = first + jnp.arange(x.shape[1])
        visible = jnp.arange(key.shape[1])[None, :] <= at[:, None]
        attended = nn.dot_product_attention(query, key, value, mask=visible[None, None])
        attended = rearrange(attended, "b t heads d -> b t (heads d)")
        x += (1 + parts[2]) * nn.Dense(self.width, dtype=self.dtype)(attended)
        y = (1 + parts[3]) * normal(x) + parts[4]
        y = nn.gelu(nn.Dense(4 * self.width, dtype=self.dtype)(y))
        x += (1 + parts[5]) * nn.Dense(self.width, dtype=self.dtype)(y)
        return x, (key, value)


class PixelNetwork(nn.Module):
    """Two dense layers and a linear map that starts at zero, for one of a cell's pixels."""

    width: int
    outputs: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, known: Float[Array, "*cells features"]) -> Float[Array, "*cells outputs"]:
        """Returns the numbers that describe the pixel's mixture."""
        x = nn.Dense(self.width, dtype=self.dtype)(known)
        x += nn.Dense(self.width, dtype=self.dtype)(nn.silu(x))
        last = nn.Dense(self.outputs, kernel_init=_ZEROS)
        found: Array = last(nn.silu(x).astype(known.dtype))
        return found
