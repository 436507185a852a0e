"""The GAN's networks: U-Net, View-Net, video generator and video discriminator (paper, section V).

A pyramid is a tuple of maps, largest first: [B, H, W, C_0], [B, H/2, W/2, C_1], ... down to level
L. Dimensions: B batch, T frames of a clip, H height, W width, L levels.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax import image
from jaxtyping import Array, Float

from flowvid.flows.convolution import Conv

Images = Float[Array, "batch height width channels"]
Videos = Float[Array, "batch frames height width channels"]
Pyramid = tuple[Array, ...]

WINDOW = (3, 3)
# Of the usual variance, that of what the generator's View-Nets add at their start: 29 changes of
# the usual size would saturate tanh before the first step.
CHANGE = 0.01


def _down(maps: Array, channels: int) -> Array:
    """Half the height and width: a convolution with stride 2 and a ReLU."""
    return nn.relu(Conv(channels, WINDOW, strides=(2, 2))(maps))


def _up(maps: Array, channels: int) -> Array:
    """Twice the height and width.

    Nearest pixels and a convolution: what a deconvolution of stride 2 computes, without its
    checkerboards (Odena et al. 2016).
    """
    batch, height, width, depth = maps.shape
    larger = image.resize(maps, (batch, 2 * height, 2 * width, depth), "nearest")
    return nn.relu(Conv(channels, WINDOW)(larger))


def _mirrored(read: Sequence[Array], channels: Sequence[int], variance: float = 1.0) -> Pyramid:
    """The way up: each map is made of the one below, enlarged, and of what was read at its level.

    The last convolution of a level has no ReLU: maps of a pyramid are added to from frame to frame,
    and have to be able to fall. It starts at `variance` times the usual.
    """
    start = nn.initializers.variance_scaling(variance, "fan_in", "truncated_normal")
    made = [Conv(channels[-1], WINDOW, kernel_init=start)(read[-1])]
    for level in reversed(range(len(channels) - 1)):
        both = jnp.concatenate([_up(made[0], channels[level + 1]), read[level]], axis=-1)
        made.insert(0, Conv(channels[level], WINDOW, kernel_init=start)(both))
    return tuple(made)


class UNet(nn.Module):
    """An image to a pyramid: convolutions of stride 2 down, and their mirror image up."""

    channels: tuple[int, ...]  # of the pyramid's maps, largest first

    @nn.compact
    def __call__(self, x: Images) -> Pyramid:
        """Images [B, H, W, C] -> their pyramid, `channels[l]` channels at level l."""
        read = [x]
        for level in range(1, len(self.channels)):
            read.append(_down(read[-1], self.channels[level]))
        return _mirrored(read, self.channels)


class ViewNet(nn.Module):
    """A frame and the pyramid before it to the next pyramid.

    A U-Net that reads each map of the old pyramid at its level, on its way down, and whose output
    is added to the old pyramid.
    """

    channels: tuple[int, ...]
    variance: float = 1.0  # of what is added at the start, as a multiple of the usual

    @nn.compact
    def __call__(self, x: Images, pyramid: Pyramid) -> Pyramid:
        """Images [B, H, W, C] and a pyramid -> a pyramid of the same shapes."""
        read = [jnp.concatenate([x, pyramid[0]], axis=-1)]
        for level in range(1, len(self.channels)):
            maps = _down(read[-1], self.channels[level])
            read.append(jnp.concatenate([maps, pyramid[level]], axis=-1))
        change = _mirrored(read, self.channels, self.variance)
        return tuple(old + new for old, new in zip(pyramid, change, strict=True))


def frame_of(pyramid: Pyramid) -> Images:
    """The frame that a generator's pyramid stands for, [B, H, W, 3], in (-1, 1)."""
    return jnp.tanh(pyramid[0])


def _advance(view: ViewNet, pyramid: Pyramid, _: None) -> tuple[Pyramid, Images]:
    pyramid = view(frame_of(pyramid), pyramid)
    return pyramid, frame_of(pyramid)


class Generator(nn.Module):
    """Noise to a video: U-Net and View-Nets for the first frame, one View-Net for all others."""

    channels: tuple[int, ...]  # of the pyramid, a frame's three first
    first_views: int  # View-Nets of the first frame, each with its own parameters
    num_frames: int

    @nn.compact
    def __call__(self, noise: Float[Array, "batch height width seen"]) -> Videos:
        """A Gaussian tensor [B, H, W, C] (with the label's image, where there is one) -> videos.

        Returns:
            [B, T, H, W, 3] in (-1, 1).
        """
        pyramid = UNet(self.channels, name="first")(noise)
        if self.first_views:
            series = nn.scan(
                _advance,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=self.first_views,
            )
            pyramid, _ = series(ViewNet(self.channels, CHANGE, name="first_views"), pyramid, None)
        first = frame_of(pyramid)[:, None]
        if self.num_frames == 1:
            return first
        shared = nn.scan(
            _advance,
            variable_broadcast="params",
            split_rngs={"params": False},
            length=self.num_frames - 1,
            out_axes=1,
        )
        _, later = shared(ViewNet(self.channels, CHANGE, name="tail"), pyramid, None)
        return jnp.concatenate([first, later], axis=1)


def _read(view: ViewNet, pyramid: Pyramid, frame: Images) -> tuple[Pyramid, Array]:
    pyramid = view(frame, pyramid)
    return pyramid, jnp.mean(pyramid[0], axis=(1, 2, 3))


class Discriminator(nn.Module):
    """A video to its score: U-Net on the first frame, one View-Net on all others.

    The largest map of each pyramid has one channel, a score a pixel; the video's is their mean over
    pixels and frames.
    """

    channels: tuple[int, ...]  # of the pyramid; 1 first

    @nn.compact
    def __call__(
        self, videos: Videos, given: Float[Array, "batch height width seen"] | None = None
    ) -> Float[Array, " batch"]:
        """Videos [B, T, H, W, 3] in [-1, 1], and the label's image where there is one -> scores."""
        first = videos[:, 0]
        if given is not None:
            first = jnp.concatenate([first, given], axis=-1)
        pyramid = UNet(self.channels, name="first")(first)
        total = jnp.mean(pyramid[0], axis=(1, 2, 3))
        if videos.shape[1] == 1:
            return total

        shared = nn.scan(
            _read,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        _, scores = shared(ViewNet(self.channels, name="tail"), pyramid, videos[:, 1:])
        return (total + jnp.sum(scores, axis=1)) / videos.shape[1]
