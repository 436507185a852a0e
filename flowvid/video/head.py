"""The head: a flow over the first frame of a video, with or without its label.

Parameters are {"flow": ..., "context": {part: ...}}.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Key, PRNGKeyArray

from flowvid.arrays import Images, Labels, Params
from flowvid.conditioning.protocol import Conditioning
from flowvid.config.schema import Config
from flowvid.flows.density import Density
from flowvid.flows.protocol import Contexts, Guidance
from flowvid.video.build import Drawing, encoder_of, flow_of, frame_shape


def contexts_of(config: Config, params: Params, labels: Labels) -> Contexts:
    """Returns what the head sees of labels."""
    seen = Conditioning(label=labels if config.sees("head").label else None)
    return encoder_of(config, "head").encode(params["context"], seen)


def init(config: Config, key: PRNGKeyArray, x: Images, labels: Labels) -> Params:
    """Returns parameters; data-dependent ones are set from dequantised frames [B, H, W, 3]."""
    flow_key, _ = jax.random.split(key)
    params: dict[str, Params] = {"context": init_context(config, key, labels)}
    contexts = contexts_of(config, params, labels)
    return params | {"flow": flow_of(config, "head").init(flow_key, x, contexts)}


def init_context(config: Config, key: PRNGKeyArray, labels: Labels) -> dict[str, Params]:
    """Returns the context encoder's parameters alone, as `init` returns them."""
    _, context_key = jax.random.split(key)
    found: dict[str, Params] = encoder_of(config, "head").init(context_key, labels, None)
    return found


def log_prob(config: Config, params: Params, x: Images, labels: Labels) -> Density:
    """Returns log p(x | label) of dequantised first frames [B, H, W, 3], in nats (equation 3)."""
    return flow_of(config, "head").log_prob(params["flow"], x, contexts_of(config, params, labels))


def changeable_log_prob(config: Config, params: Params, x: Images, labels: Labels) -> Array:
    """Returns log p(x | label) in nats, [B], up to a term that no label changes."""
    contexts = contexts_of(config, params, labels)
    return flow_of(config, "head").changeable_log_prob(params["flow"], x, contexts)


def reconstruct(config: Config, params: Params, x: Images, labels: Labels) -> Images:
    """Encodes first frames [B, H, W, 3] to latents and decodes these: x, up to rounding."""
    flow, contexts = flow_of(config, "head"), contexts_of(config, params, labels)
    return flow.decode(params["flow"], flow.encode(params["flow"], x, contexts), contexts)


def sample(
    config: Config,
    params: Params,
    keys: Key[Array, " batch"],
    labels: Labels,
    how: Drawing,
) -> Images:
    """Samples first frames [B, H, W, 3] in the flow's units, from one key and label per video."""
    guidance = None
    if how.guidance is not None:
        untold = jnp.full_like(labels, config.num_labels)
        guidance = Guidance(how.guidance, contexts_of(config, params, untold))
    contexts = contexts_of(config, params, labels)
    return flow_of(config, "head").sample(
        params["flow"], keys, frame_shape(config), contexts, how.temperature, guidance
    )
