"""How a vector, such as that of a label, conditions features: it scales and shifts them."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float

# The optimiser knows what depends on labels alone by this name (--label_learning_rate).
OF_VECTOR = "of_vector"


def depends_on_vector(path: jax.tree_util.KeyPath) -> bool:
    """Returns whether a leaf of the parameters acts on such a vector alone, as its path says."""
    return any(getattr(entry, "key", None) == OF_VECTOR for entry in path)


class ScaleAndShift(nn.Module):
    """Feature-wise linear modulation (Perez et al. 2018); at the start, the identity."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], vector: Float[Array, "batch vector"]
    ) -> Float[Array, "batch height width channels"]:
        """Returns the features [B, H, W, C], scaled and shifted by a map of the vector [B, V]."""
        layer = nn.Dense(2 * x.shape[-1], kernel_init=nn.initializers.zeros, name=OF_VECTOR)
        scale, shift = jnp.split(layer(vector)[:, None, None], 2, axis=-1)
        return (1 + scale) * x + shift
