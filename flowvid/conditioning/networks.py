"""Networks that compute the context: label images, context processor and context pyramid."""

import einops
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int

from flowvid.flows.bijectors import normalising_shift_and_log_scale
from flowvid.flows.convolution import Conv

Images = Float[Array, "batch height width channels"]


class ContextPyramid(nn.Module):
    """Computes a context map per level, at the resolution of the level's input before the squeeze.

    The first map is the context itself, so that the first level sees the previous frame at full
    resolution. Each further map is a convolution of the one before, with stride 2 and as many
    channels. There is a ReLU between convolutions (paper, section IV and appendix).
    """

    levels: int

    @nn.compact
    def __call__(self, context: Images) -> tuple[Array, ...]:
        """Returns one map per level of a context: [B, H, W, C], [B, H/2, W/2, C], and so on."""
        maps = [context]
        for level in range(1, self.levels):
            below = maps[-1] if level == 1 else nn.relu(maps[-1])
            maps.append(Conv(context.shape[-1], (3, 3), strides=(2, 2))(below))
        return tuple(maps)


class ContextProcessor(nn.Module):
    """Updates a state from a frame (paper, section IV and appendix).

    The update is an ActNorm of state and frame, concatenated, a 3x3 convolution to twice the
    channels of the state, a ReLU, and a 3x3 convolution back to those of the state, to which it is
    added. All frames share the parameters. ActNorm is initialised from the batch that `init` sees.
    The last convolution starts at zero, so that the state stays zero until training changes it. A
    random one would make the state grow over the frames, until it dominated the previous frame,
    with which it is concatenated.
    """

    @nn.compact
    def __call__(
        self,
        state: Float[Array, "batch height width state"],
        frame: Float[Array, "batch height width channels"],
    ) -> Float[Array, "batch height width state"]:
        """Returns the next state [B, H, W, S] after a frame [B, H, W, C]."""
        x = jnp.concatenate([frame, state], axis=-1)
        shift = self.param("shift", lambda _: normalising_shift_and_log_scale(x)[0])
        log_scale = self.param("log_scale", lambda _: normalising_shift_and_log_scale(x)[1])
        x = (x + lax.broadcast_to_rank(shift, 4)) * jnp.exp(lax.broadcast_to_rank(log_scale, 4))
        x = nn.relu(Conv(2 * state.shape[-1], (3, 3))(x))
        return state + Conv(state.shape[-1], (3, 3), kernel_init=nn.initializers.zeros)(x)


class LabelImages(nn.Module):
    """A learned image per label, initialised as N(0, scale^2) noise (paper, section VII, appendix).

    In the paper the scale is 1, and every pixel is learned. Fitting an image of d numbers to the n
    clips of its label costs about d / 2n nats per held-out clip. With few clips, coarser images,
    enlarged to squares of equal pixels, generalise better.
    """

    num_labels: int
    height: int
    width: int
    channels: int
    scale: float = 1.0
    enlarged: int = 1  # side of the squares, in pixels

    @nn.compact
    def __call__(self, labels: Int[Array, " batch"]) -> Images:
        """Returns the images [B, height, width, channels] of labels [B]."""
        sides = (self.height // self.enlarged, self.width // self.enlarged)
        shape = (self.num_labels, *sides, self.channels)
        images = self.param("images", nn.initializers.normal(self.scale), shape)[labels]
        side = self.enlarged
        return einops.repeat(images, "b h w c -> b (h row) (w col) c", row=side, col=side)
