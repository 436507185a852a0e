"""The tail: a conditional Glow over each next frame, given the previous frame and a state.

Dimensions: B batch, T frames of a clip, F frames modelled, H height, W width, S state channels,
K context channels (3, or 3 + S).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Key, PRNGKeyArray

from flowvid import chunks
from flowvid.bijectors.base import Images, Params
from flowvid.config import Config
from flowvid.glow import CHANNELS, Contexts, Density, Glow, sample_latents, video_flow
from flowvid.networks.context import ContextProcessor, ContextPyramid

Frames = Float[Array, "batch frames height width channels"]
FrameContexts = Float[Array, "batch frames height width context_channels"]
Modelled = Float[Array, "batch modelled height width channels"]
Folded = Float[Array, "folded height width channels"]  # batch and frames in one
Seen = Float[Array, "folded height width context_channels"]
State = Float[Array, "batch height width state"]


def _flow(config: Config) -> Glow:
    return video_flow(config, config.tail_steps)


def first_state(config: Config, frame: Images) -> State:
    """The state before any frame has been seen: zeros [B, H, W, S]."""
    return jnp.zeros((*frame.shape[:-1], config.state_size))


def next_state(config: Config, params: Params, state: State, frame: Images) -> State:
    """The state [B, H, W, S] once `frame` (clean, on the metric's grid) has been seen.

    Without a processor in the variant, the state stays what it was.
    """
    if not config.conditioning.state:
        return state
    processed: Any = ContextProcessor().apply(params["processor"], state, frame)
    return processed


def context(config: Config, params: Params, frames: Frames) -> FrameContexts | None:
    """What the tail sees after each of the clean frames [B, T, H, W, 3]: [B, T, H, W, K].

    The state is scanned over time; entry t holds frame t and the state that has seen frames 0..t,
    and is the context of frame t + 1. None for a variant without conditioning.
    """
    if not config.conditioning.previous_frame:
        return None
    if not config.conditioning.state:
        return frames

    # Kept for the backward pass are the states alone: the processor costs little to run again.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def body(state: State, frame: Images) -> tuple[State, State]:
        state = next_state(config, params, state, frame)
        return state, state

    in_time = jnp.moveaxis(frames, 1, 0)
    _, states = lax.scan(body, first_state(config, in_time[0]), in_time)
    return jnp.concatenate([frames, jnp.moveaxis(states, 0, 1)], axis=-1)


def _fold_time(frames: Frames | None) -> Any:
    return None if frames is None else frames.reshape(-1, *frames.shape[2:])


def _pyramid(config: Config, params: Params, raw: Seen | None) -> Contexts:
    if raw is None:
        return (None,) * config.levels
    maps: Any = ContextPyramid(config.levels).apply(params["pyramid"], raw)
    return maps


def init(
    config: Config, key: PRNGKeyArray, x: Modelled, clean: Frames, picked: Array | None
) -> Params:
    """Parameters, with ActNorm set from the first batch.

    Args:
        config: the run's.
        key: of the parameters.
        x: dequantised frames to model [B, F, H, W, 3].
        clean: frames [B, T - 1, H, W, 3] that come before them, on the metric's grid. The
            processor's ActNorm is set from all of these, its state channels start as the identity.
        picked: indices [B, F] into the T - 1 contexts, or None when F = T - 1.

    Returns:
        {"flow": ...} and, as the variant has them, {"pyramid": ..., "processor": ...}.
    """
    flow_key, processor_key, pyramid_key = jax.random.split(key, 3)
    params: dict[str, Params] = {}
    if config.conditioning.state:
        frames = _fold_time(clean)
        zeros = first_state(config, frames)
        params["processor"] = ContextProcessor().init(processor_key, zeros, frames)
    raw = _fold_time(pick(context(config, params, clean), picked))
    if raw is not None:
        params["pyramid"] = ContextPyramid(config.levels).init(pyramid_key, raw)
    contexts = _pyramid(config, params, raw)
    return params | {"flow": _flow(config).init(flow_key, _fold_time(x), contexts)}


def pick(frames: Array | None, picked: Array | None) -> Array | None:
    """Frames [B, T, ...] at the indices `picked` [B, F]: [B, F, ...]; all of them for None."""
    if frames is None or picked is None:
        return frames
    return jnp.take_along_axis(frames, picked.reshape(*picked.shape, 1, 1, 1), axis=1)


def frames_at_once(config: Config) -> int:
    """How many frames pass through the flow together: config.tail_chunk, or what it stands for.

    That is as many as keep half a gigabyte for the backward pass, by a count of what the coupling
    networks see and keep: the steps' activations, of one step alone where they are rebuilt.
    """
    if config.tail_chunk is not None:
        return config.tail_chunk
    seen, size, channels, numbers = config.conditioning, config.image_size, CHANNELS, 0
    context_channels = CHANNELS * seen.previous_frame + config.state_size * seen.state
    steps = 1 if config.backprop == "reversible" else config.tail_steps
    for _ in range(config.levels):
        size, channels = size // 2, channels * 4
        window = 9 * (channels // 2 + 4 * context_channels)
        numbers += size**2 * (steps * (2 * config.width + 2 * channels) + window)
        channels //= 2
    return max(2**29 // (4 * numbers), 1)


def frames_log_prob(config: Config, params: Params, x: Folded, raw: Seen | None) -> Density:
    """log p(frame | what the tail sees) of frames [N, H, W, 3], in nats, [N] (equation 3)."""
    contexts = _pyramid(config, params, raw)
    return _flow(config).forward(params["flow"], x, contexts)[1]


def frames_and_contexts(
    config: Config, params: Params, x: Modelled, clean: Frames, picked: Array | None = None
) -> tuple[Folded, Seen | None]:
    """The arguments of `frames_log_prob`, batch and time folded into N; these as in `init`.

    The states depend on real frames alone, so that the frames need not wait for each other.
    """
    raw = pick(context(config, params, clean), picked)
    return _fold_time(x), _fold_time(raw)


def log_prob(
    config: Config, params: Params, x: Modelled, clean: Frames, picked: Array | None = None
) -> Density:
    """log p(frame | frames before it) under teacher forcing, in nats, [B, F] (equation 3).

    Arguments as in `init`; `frames_at_once` of the frames pass through the flow together.
    """
    density = chunks.each(
        lambda frames: frames_log_prob(config, params, *frames),
        frames_and_contexts(config, params, x, clean, picked),
        frames_at_once(config),
    )
    return Density(*(term.reshape(x.shape[:2]) for term in density))


def reconstruct(
    config: Config, params: Params, x: Modelled, clean: Frames, picked: Array | None = None
) -> Modelled:
    """Frames [B, F, H, W, 3] to latents and back: x itself, but for rounding. As `log_prob`."""
    flow = _flow(config)
    raw = pick(context(config, params, clean), picked)
    contexts = _pyramid(config, params, _fold_time(raw))
    latents, _ = flow.forward(params["flow"], _fold_time(x), contexts)
    return flow.inverse(params["flow"], latents, contexts).reshape(x.shape)


def prepare(config: Config, params: Params) -> Params:
    """Parameters for many calls of `sample`: what these would all work out is in them."""
    return {**params, "flow": _flow(config).prepare(params["flow"])}


def sample(
    config: Config,
    params: Params,
    keys: Key[Array, " batch"],
    previous: Images,
    state: State,
    temperature: Float[Array, ""],
) -> Images:
    """The next frame [B, H, W, 3] in the flow's units; one key a video.

    `previous` is on the metric's grid, and `state` has already seen it.
    """
    raw = None
    if config.conditioning.state:
        raw = jnp.concatenate([previous, state], axis=-1)
    elif config.conditioning.previous_frame:
        raw = previous
    flow = _flow(config)
    latents = sample_latents(keys, flow.latent_shapes(*previous.shape[1:]), temperature)
    return flow.inverse(params["flow"], latents, _pyramid(config, params, raw))
