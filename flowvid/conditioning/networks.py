"""Where context comes from: label images, the processor's state, and the pyramid of resolutions."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from flowvid.flows.bijectors import normalising_shift_and_log_scale
from flowvid.flows.convolution import Conv

Images = Float[Array, "batch height width channels"]


class ContextPyramid(nn.Module):
    """One map a level, at the resolution of the level's input before it is squeezed.

    The first is the raw context, so that the first level sees the previous frame pixel by pixel;
    each next one is a stride-2 convolution of the one before, channels constant, with a ReLU
    between convolutions (paper, section IV and appendix).
    """

    levels: int

    @nn.compact
    def __call__(self, context: Images) -> tuple[Array, ...]:
        """[B, H, W, C] -> [B, H, W, C], [B, H/2, W/2, C], [B, H/4, W/4, C], ... (`levels` maps)."""
        maps = [context]
        for level in range(1, self.levels):
            below = maps[-1] if level == 1 else nn.relu(maps[-1])
            maps.append(Conv(context.shape[-1], (3, 3), strides=(2, 2))(below))
        return tuple(maps)


class ContextProcessor(nn.Module):
    """Carries a state through time: (state, frame) -> next state (paper, section IV and appendix).

    ActNorm on the two concatenated, a 3x3 convolution to twice the state's channels, ReLU, a 3x3
    convolution back, added to the state. The same parameters at every frame. ActNorm is initialised
    from the batch that `init` sees. The last convolution starts at zero, so that the state stays
    zero until training has a use for it: a random one drifts over the frames and drowns the
    previous frame, beside which it is concatenated.
    """

    @nn.compact
    def __call__(
        self,
        state: Float[Array, "batch height width state"],
        frame: Float[Array, "batch height width channels"],
    ) -> Float[Array, "batch height width state"]:
        """State [B, H, W, S] and frame [B, H, W, C] -> next state [B, H, W, S]."""
        x = jnp.concatenate([frame, state], axis=-1)
        shift = self.param("shift", lambda _: normalising_shift_and_log_scale(x)[0])
        log_scale = self.param("log_scale", lambda _: normalising_shift_and_log_scale(x)[1])
        x = (x + shift) * jnp.exp(log_scale)
        x = nn.relu(Conv(2 * state.shape[-1], (3, 3))(x))
        return state + Conv(state.shape[-1], (3, 3), kernel_init=nn.initializers.zeros)(x)


class LabelImages(nn.Module):
    """A learned image per label, started as N(0, scale^2) noise (paper, section VII and appendix).

    In the paper scale is 1, and every pixel is learned. An image of d numbers that n clips of its
    label have fitted costs about d / 2n nats a held-out clip, so that coarser images, enlarged to
    squares of equal pixels, are worth more where there are few clips.
    """

    num_labels: int
    height: int
    width: int
    channels: int
    scale: float = 1.0
    enlarged: int = 1  # side of the squares

    @nn.compact
    def __call__(self, labels: Int[Array, " batch"]) -> Images:
        """Labels [B] -> their images [B, height, width, channels]."""
        sides = (self.height // self.enlarged, self.width // self.enlarged)
        shape = (self.num_labels, *sides, self.channels)
        images = self.param("images", nn.initializers.normal(self.scale), shape)[labels]
        return jnp.repeat(jnp.repeat(images, self.enlarged, axis=1), self.enlarged, axis=2)
