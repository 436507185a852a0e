"""The head: a Glow over the first frame of a video, with or without the label's learned image."""

from typing import Any

import jax
from jax import Array
from jaxtyping import Float, Int, Key, PRNGKeyArray

from flowvid.bijectors.base import Images, Params
from flowvid.config import Config
from flowvid.glow import CHANNELS, Contexts, Density, Glow, sample_latents, video_flow
from flowvid.networks.context import ContextPyramid, LabelImages

Labels = Int[Array, " batch"]


def _flow(config: Config) -> Glow:
    return video_flow(config, config.head_steps)


def _label_images(config: Config) -> LabelImages:
    size = config.image_size
    enlarged = size // (config.label_size or size)
    return LabelImages(config.num_labels, size, size, CHANNELS, config.label_scale, enlarged)


def _contexts(config: Config, params: Params, labels: Labels) -> Contexts:
    if not config.conditioning.labels:
        return (None,) * config.levels
    images = _label_images(config).apply(params["labels"], labels)
    maps: Any = ContextPyramid(config.levels).apply(params["pyramid"], images)
    return maps


def init(config: Config, key: PRNGKeyArray, x: Images, labels: Labels) -> Params:
    """Parameters, with ActNorm set from dequantised first frames x [B, H, W, 3].

    Returns:
        {"flow": ...} and, with labels, {"labels": ..., "pyramid": ...}.
    """
    flow_key, label_key, pyramid_key = jax.random.split(key, 3)
    params: dict[str, Params] = {}
    if config.conditioning.labels:
        params["labels"] = _label_images(config).init(label_key, labels)
        images = _label_images(config).apply(params["labels"], labels)
        params["pyramid"] = ContextPyramid(config.levels).init(pyramid_key, images)
    contexts = _contexts(config, params, labels)
    return params | {"flow": _flow(config).init(flow_key, x, contexts)}


def log_prob(config: Config, params: Params, x: Images, labels: Labels) -> Density:
    """log p(x | label) of dequantised first frames [B, H, W, 3], in nats, [B] (equation 3)."""
    return _flow(config).forward(params["flow"], x, _contexts(config, params, labels))[1]


def reconstruct(config: Config, params: Params, x: Images, labels: Labels) -> Images:
    """First frames [B, H, W, 3] to latents and back: x itself, but for rounding."""
    flow, contexts = _flow(config), _contexts(config, params, labels)
    latents, _ = flow.forward(params["flow"], x, contexts)
    return flow.inverse(params["flow"], latents, contexts)


def sample(
    config: Config,
    params: Params,
    keys: Key[Array, " batch"],
    labels: Labels,
    temperature: Float[Array, ""],
) -> Images:
    """First frames [B, H, W, 3] in the flow's units; one key and one label a video."""
    flow = _flow(config)
    shapes = flow.latent_shapes(config.image_size, config.image_size, CHANNELS)
    latents = sample_latents(keys, shapes, temperature)
    return flow.inverse(params["flow"], latents, _contexts(config, params, labels))
