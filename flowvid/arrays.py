"""Types of arrays that are used throughout, and the number of channels of a frame.

Images are [B, H, W, C] and videos [B, T, H, W, C]: uint8 where they enter and leave, float32 inside
a model.
"""

from typing import Any

from jax import Array
from jaxtyping import Float, Int, UInt8

CHANNELS = 3  # of a frame

Params = Any  # a tree of arrays
Images = Float[Array, "batch height width channels"]
Labels = Int[Array, " batch"]
PixelVideos = UInt8[Array, "batch frames height width channels"]
