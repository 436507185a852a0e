"""Generator and discriminator as pure functions of a configuration and parameters."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, Key, PRNGKeyArray, UInt8

from flowvid.arrays import CHANNELS, Params
from flowvid.conditioning.networks import LabelImages
from flowvid.conditioning.pyramid.encoder import images_of_labels
from flowvid.gan.config import GanConfig
from flowvid.gan.networks import Discriminator, Generator, Images, Videos
from flowvid.sizes import Size

Labels = Int[Array, " batch"]


def _generator(config: GanConfig) -> Generator:
    channels = (CHANNELS,) + (config.width,) * config.levels
    return Generator(channels, config.first_views, config.num_frames)


def _discriminator(config: GanConfig) -> Discriminator:
    return Discriminator((1,) + (config.width,) * config.levels)


def _label_images(config: GanConfig) -> LabelImages:
    return images_of_labels(config.num_labels, Size.of(config.image_size), config.label_size)


def noise(config: GanConfig, keys: Key[Array, " batch"]) -> Images:
    """Returns Gaussian tensors [B, H, W, noise_channels], one per key."""
    shape = (config.image_size, config.image_size, config.noise_channels)
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def init(config: GanConfig, key: PRNGKeyArray) -> dict[str, Params]:
    """Returns initial parameters, {"generator": ..., "discriminator": ...}.

    Each has an entry "network", and "labels" if the configuration has labels.
    """
    size, blank = config.image_size, jnp.zeros(1, jnp.int32)
    video = jnp.zeros((1, config.num_frames, size, size, CHANNELS))
    tensor = jnp.zeros((1, size, size, config.noise_channels))
    params: dict[str, Params] = {}
    for name, of in zip(("generator", "discriminator"), jax.random.split(key), strict=True):
        network_key, label_key = jax.random.split(of)
        labels = {"labels": _label_images(config).init(label_key, blank)} if config.labels else {}
        given = _given(config, labels, blank)
        if name == "generator":
            network = _generator(config).init(network_key, _seen(config, labels, tensor, blank))
        else:
            network = _discriminator(config).init(network_key, video, given)
        params[name] = labels | {"network": network}
    return params


def _given(config: GanConfig, params: Params, labels: Labels) -> Images | None:
    if not config.labels:
        return None
    images: Any = _label_images(config).apply(params["labels"], labels)
    return images


def _seen(
    config: GanConfig, params: Params, tensor: Images, labels: Labels
) -> Float[Array, "batch height width seen"]:
    given = _given(config, params, labels)
    return tensor if given is None else jnp.concatenate([tensor, given], axis=-1)


def generate(
    config: GanConfig, params: Params, keys: Key[Array, " batch"], labels: Labels
) -> Videos:
    """Generates videos [B, T, H, W, 3] in (-1, 1), each from one key and one label."""
    seen = _seen(config, params, noise(config, keys), labels)
    videos: Any = _generator(config).apply(params["network"], seen)
    return videos


def score(
    config: GanConfig, params: Params, videos: Videos, labels: Labels
) -> Float[Array, " batch"]:
    """Returns the discriminator's logit that each video [B, T, H, W, 3] in [-1, 1] is real."""
    given = _given(config, params, labels)
    scores: Any = _discriminator(config).apply(params["network"], videos, given)
    return scores


def to_pixels(videos: Videos) -> UInt8[Array, "batch frames height width channels"]:
    """Converts values in [-1, 1] to grey values in 0..255."""
    return jnp.clip(jnp.round((videos + 1) * 127.5), 0, 255).astype(jnp.uint8)


def from_pixels(videos: UInt8[Array, "batch frames height width channels"]) -> Videos:
    """Converts grey values in 0..255 to values in [-1, 1]."""
    return videos.astype(jnp.float32) / 127.5 - 1
