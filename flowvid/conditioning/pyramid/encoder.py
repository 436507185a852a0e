"""The paper's context encoder as pure functions (paper, section IV and appendix).

Dimensions: B batch, H height, W width, S state channels, K context channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from flowvid.arrays import CHANNELS, Images, Labels, Params
from flowvid.conditioning.networks import ContextProcessor, ContextPyramid, LabelImages
from flowvid.conditioning.protocol import Conditioning, ContextEncoder, EncoderOptions
from flowvid.conditioning.pyramid.settings import PyramidSettings
from flowvid.flows.glow.diagnostics import log_scale_range
from flowvid.flows.protocol import Contexts, Diagnostic, Shape
from flowvid.sizes import Size

Frames = Float[Array, "frames height width channels"]
ImageState = Float[Array, "batch height width state"] | None


def pyramid_encoder(settings: PyramidSettings, options: EncoderOptions) -> ContextEncoder:
    """Concatenates what is seen to one image, and convolves it down to the levels' resolutions.

    A label is seen as its learned image, the state as the image that the context processor carries.
    Parameters are those of the parts that are used, of "labels", "processor" and "pyramid".
    """
    sees, levels = options.sees, options.levels
    label_images = images_of_labels(
        options.num_labels, options.image_size, settings.label_size, settings.label_scale
    )
    channels = CHANNELS * (sees.label + sees.previous) + settings.state_size * sees.state

    def init(key: PRNGKeyArray, labels: Labels, frames: Frames | None) -> dict[str, Params]:
        label_key, processor_key, pyramid_key = jax.random.split(key, 3)
        params: dict[str, Params] = {}
        if sees.label:
            params["labels"] = label_images.init(label_key, labels)
        if sees.state:
            assert frames is not None
            params["processor"] = ContextProcessor().init(
                processor_key, first_state(frames), frames
            )
        if channels:
            blank = jnp.zeros((1, *options.image_size, channels))
            params["pyramid"] = ContextPyramid(levels).init(pyramid_key, blank)
        return params

    def encode(params: Params, conditioning: Conditioning) -> Contexts:
        if not channels:
            return (None,) * levels
        maps: list[Any] = []
        if sees.label:
            maps.append(label_images.apply(params["labels"], conditioning.label))
        if sees.previous:
            maps.append(conditioning.previous)
        if sees.state:
            maps.append(conditioning.state)
        pyramid: Any = ContextPyramid(levels).apply(
            params["pyramid"], jnp.concatenate(maps, axis=-1)
        )
        return pyramid

    def first_state(frame: Images) -> ImageState:
        return jnp.zeros((*frame.shape[:-1], settings.state_size)) if sees.state else None

    def next_state(params: Params, state: ImageState, frame: Images) -> ImageState:
        if not sees.state:
            return None
        processed: Any = ContextProcessor().apply(params["processor"], state, frame)
        return processed

    def label_table(params: Params) -> Any:
        return params["labels"]["params"]["images"] if sees.label else None

    def diagnostics(params: Params) -> dict[str, Diagnostic]:
        return {f"context_{name}": found for name, found in log_scale_range(params).items()}

    def flop(shape: Shape) -> dict[str, float]:
        rows, columns, _ = shape
        pixels = [rows * columns / 4**level for level in range(1, levels)]
        found = {"pyramid": 2 * 9 * channels**2 * sum(pixels)}
        if sees.state:
            size = settings.state_size
            weights = 9 * ((CHANNELS + size) * 2 * size + 2 * size * size)
            found["processor"] = 2.0 * rows * columns * weights
        return found

    return ContextEncoder(
        init=init,
        encode=encode,
        first_state=first_state,
        next_state=next_state,
        channels=(channels,) * levels,
        label_table=label_table,
        diagnostics=diagnostics,
        flop=flop,
    )


def images_of_labels(
    num_labels: int, image_size: Size, label_size: int | None, scale: float = 1.0
) -> LabelImages:
    """Returns the module of label images, learned at `label_size` and enlarged to a frame."""
    enlarged = image_size.height // (label_size or image_size.height)
    return LabelImages(num_labels, *image_size, CHANNELS, scale, enlarged)
