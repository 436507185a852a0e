"""The GAN's networks: U-Net, View-Net, video generator and video discriminator (paper, section V).

A pyramid is a tuple of maps, largest first: [B, H, W, C_0], [B, H/2, W/2, C_1], ... to level L.
Dimensions: B batch, T frames per clip, H height, W width, C channels, L levels.
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
# The initial variance of what the generator's View-Nets add, as a multiple of the usual one. The
# sum of 29 changes with the usual variance would saturate tanh before the first step.
CHANGE = 0.01


def _down(maps: Array, channels: int) -> Array:
    """Halves height and width by a convolution with stride 2, followed by a ReLU."""
    return nn.relu(Conv(channels, WINDOW, strides=(2, 2))(maps))


def _up(maps: Array, channels: int) -> Array:
    """Doubles height and width by nearest neighbours, a convolution and a ReLU.

    This avoids the checkerboard artefacts of a transposed convolution (Odena et al. 2016).
    """
    batch, height, width, depth = maps.shape
    larger = image.resize(maps, (batch, 2 * height, 2 * width, depth), "nearest")
    return nn.relu(Conv(channels, WINDOW)(larger))


def _mirrored(read: Sequence[Array], channels: Sequence[int], variance: float = 1.0) -> Pyramid:
    """Returns the pyramid that the upward half of a U-Net computes.

    Each map is computed from the map below it, enlarged, and from the map that the downward half
    read at the same level. The last convolution of a level has no ReLU, because the output is added
    to the pyramid from frame to frame and must be able to decrease it. The variance of its initial
    kernel is `variance` times the usual one.
    """
    start = nn.initializers.variance_scaling(variance, "fan_in", "truncated_normal")
    made = [Conv(channels[-1], WINDOW, kernel_init=start)(read[-1])]
    for level in reversed(range(len(channels) - 1)):
        both = jnp.concatenate([_up(made[0], channels[level + 1]), read[level]], axis=-1)
        made.insert(0, Conv(channels[level], WINDOW, kernel_init=start)(both))
    return tuple(made)


class UNet(nn.Module):
    """A U-Net from an image to a pyramid: strided convolutions down, and their mirror image up."""

    channels: tuple[int, ...]  # of the pyramid's maps, largest first

    @nn.compact
    def __call__(self, x: Images) -> Pyramid:
        """Returns the pyramid of images [B, H, W, C], with `channels[l]` channels at level l."""
        read = [x]
        for level in range(1, len(self.channels)):
            read.append(_down(read[-1], self.channels[level]))
        return _mirrored(read, self.channels)


class ViewNet(nn.Module):
    """A U-Net from a frame and the previous pyramid to the next pyramid.

    Its downward half reads each map of the previous pyramid at the map's level. Its output is added
    to the previous pyramid.
    """

    channels: tuple[int, ...]
    variance: float = 1.0  # initial variance of what is added, as a multiple of the usual one

    @nn.compact
    def __call__(self, x: Images, pyramid: Pyramid) -> Pyramid:
        """Returns the pyramid, of equal shapes, that follows images [B, H, W, C] and a pyramid."""
        read = [jnp.concatenate([x, pyramid[0]], axis=-1)]
        for level in range(1, len(self.channels)):
            maps = _down(read[-1], self.channels[level])
            read.append(jnp.concatenate([maps, pyramid[level]], axis=-1))
        change = _mirrored(read, self.channels, self.variance)
        return tuple(old + new for old, new in zip(pyramid, change, strict=True))


def frame_of(pyramid: Pyramid) -> Images:
    """Returns the frame [B, H, W, 3] in (-1, 1) of a generator's pyramid."""
    return jnp.tanh(pyramid[0])


def _advance(view: ViewNet, pyramid: Pyramid, _: None) -> tuple[Pyramid, Images]:
    pyramid = view(frame_of(pyramid), pyramid)
    return pyramid, frame_of(pyramid)


class Generator(nn.Module):
    """Maps noise to a video.

    A U-Net and View-Nets make the first frame; one View-Net, applied repeatedly, makes the others.
    """

    channels: tuple[int, ...]  # of the pyramid's maps; the first has the 3 of a frame
    first_views: int  # View-Nets of the first frame, each with its own parameters
    num_frames: int

    @nn.compact
    def __call__(self, noise: Float[Array, "batch height width seen"]) -> Videos:
        """Generates videos [B, T, H, W, 3] in (-1, 1).

        Args:
            noise: a Gaussian tensor, concatenated with the image of the label if there are labels.
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
    """Maps a video to its score, by a U-Net on the first frame and one View-Net on the others.

    The largest map of each pyramid has one channel, which holds a score per pixel. The score of the
    video is their mean over pixels and frames.
    """

    channels: tuple[int, ...]  # of the pyramid's maps; the first has 1

    @nn.compact
    def __call__(
        self, videos: Videos, given: Float[Array, "batch height width seen"] | None = None
    ) -> Float[Array, " batch"]:
        """Returns the scores [B] of videos.

        Args:
            videos: [B, T, H, W, 3] in [-1, 1].
            given: the images of the labels, [B, H, W, 3]; None without labels.
        """
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
