"""The paper's context encoder as pure functions (paper, section IV and appendix).

Dimensions: B batch, H height, W width, S state channels, K context channels.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from flowvid.arrays import CHANNELS, Images, Labels, Params
from flowvid.conditioning.networks import ContextProcessor, ContextPyramid, LabelImages
from flowvid.conditioning.protocol import Conditioning, ContextEncoder, EncoderOptions
from flowvid.conditioning.pyramid.settings import PyramidSettings
from flowvid.conditioning.sees import Sees
from flowvid.flows.glow.diagnostics import log_scale_range
from flowvid.flows.protocol import Contexts, Diagnostic, Shape
from flowvid.sizes import Size

Frames = Float[Array, "frames height width channels"]
ImageState = Float[Array, "batch height width state"] | None


def pyramid_encoder(settings: PyramidSettings, options: EncoderOptions) -> ContextEncoder:
    """Returns an encoder whose maps are convolved down from one image of all that is seen."""
    encoder = PyramidEncoder(settings, options)
    return ContextEncoder(
        init=encoder.init,
        encode=encoder.encode,
        first_state=encoder.first_state,
        next_state=encoder.next_state,
        channels=(encoder.channels,) * options.levels,
        label_table=encoder.label_table,
        diagnostics=_diagnostics,
        flop=encoder.flop,
    )


@dataclass(frozen=True)
class PyramidEncoder:
    """The functions of the encoder; `pyramid_encoder` makes a `ContextEncoder` of them.

    A label is seen as its learned image, the state as the image that the context processor carries.
    Parameters are those of the parts that are used, of "labels", "processor" and "pyramid".
    """

    settings: PyramidSettings
    options: EncoderOptions

    @property
    def sees(self) -> Sees:
        """What is seen."""
        return self.options.sees

    @property
    def channels(self) -> int:
        """K."""
        images = CHANNELS * (self.sees.label + self.sees.previous)
        return images + self.settings.state_size * self.sees.state

    @property
    def label_images(self) -> LabelImages:
        """The module of the labels' images."""
        size = self.options.image_size
        of_settings = (self.settings.label_size, self.settings.label_scale)
        return images_of_labels(self.options.num_labels, size, *of_settings)

    def init(self, key: PRNGKeyArray, labels: Labels, frames: Frames | None) -> dict[str, Params]:
        """Returns the parameters of each part."""
        label_key, processor_key, pyramid_key = jax.random.split(key, 3)
        params: dict[str, Params] = {}
        if self.sees.label:
            params["labels"] = self.label_images.init(label_key, labels)
        if self.sees.state:
            assert frames is not None
            params["processor"] = ContextProcessor().init(
                processor_key, self.first_state(frames), frames
            )
        if self.channels:
            blank = jnp.zeros((1, *self.options.image_size, self.channels))
            params["pyramid"] = ContextPyramid(self.options.levels).init(pyramid_key, blank)
        return params

    def encode(self, params: Params, conditioning: Conditioning) -> Contexts:
        """Returns the map of each level, or None where nothing is seen."""
        levels = self.options.levels
        if not self.channels:
            return (None,) * levels
        maps: list[Any] = []
        if self.sees.label:
            maps.append(self.label_images.apply(params["labels"], conditioning.label))
        if self.sees.previous:
            maps.append(conditioning.previous)
        if self.sees.state:
            maps.append(conditioning.state)
        pyramid: Any = ContextPyramid(levels).apply(
            params["pyramid"], jnp.concatenate(maps, axis=-1)
        )
        return pyramid

    def first_state(self, frame: Images) -> ImageState:
        """Returns the state before any frame is seen: zeros."""
        if not self.sees.state:
            return None
        return jnp.zeros((*frame.shape[:-1], self.settings.state_size))

    def next_state(self, params: Params, state: ImageState, frame: Images) -> ImageState:
        """Returns the state once a frame is seen."""
        if not self.sees.state:
            return None
        processed: Any = ContextProcessor().apply(params["processor"], state, frame)
        return processed

    def label_table(self, params: Params) -> Any:
        """Returns the images of the labels."""
        return params["labels"]["params"]["images"] if self.sees.label else None

    def flop(self, shape: Shape) -> dict[str, float]:
        """Returns the operations per frame of each part."""
        rows, columns, _ = shape
        pixels = [rows * columns / 4**level for level in range(1, self.options.levels)]
        found = {"pyramid": 2 * 9 * self.channels**2 * sum(pixels)}
        if self.sees.state:
            size = self.settings.state_size
            weights = 9 * ((CHANNELS + size) * 2 * size + 2 * size * size)
            found["processor"] = 2.0 * rows * columns * weights
        return found


def _diagnostics(params: Params) -> dict[str, Diagnostic]:
    return {f"context_{name}": found for name, found in log_scale_range(params).items()}


def images_of_labels(
    num_labels: int, image_size: Size, label_size: int | None, scale: float = 1.0
) -> LabelImages:
    """Returns the module of label images, learned at `label_size` and enlarged to a frame."""
    enlarged = image_size.height // (label_size or image_size.height)
    return LabelImages(num_labels, *image_size, CHANNELS, scale, enlarged)
