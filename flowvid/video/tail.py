"""The tail: a conditional flow over each next frame, given the frames before it.

What it sees of them is the previous frame and a state that the context encoder carries, as the
variant says. Parameters are {"flow": ..., "context": {part: ...}}.

Dimensions: B batch, T frames of a clip, F frames modelled, N = B F, H height, W width.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int, Key, PRNGKeyArray

from flowvid.arrays import Images, Labels, Params
from flowvid.conditioning.protocol import Conditioning, State
from flowvid.config.schema import Config
from flowvid.flows.density import Density
from flowvid.flows.protocol import Guidance, Shape
from flowvid.video import chunks
from flowvid.video.build import Drawing, encoder_of, flow_of, frame_shape
from flowvid.video.frames import TailFrames, pick

Frames = Float[Array, "batch frames height width channels"]
Modelled = Float[Array, "batch modelled height width channels"]
Folded = Float[Array, "folded height width channels"]  # batch and frames in one

# The backward pass may keep this many bytes of the flow's activations, if --tail_chunk is not set.
_ACTIVATION_BYTES = 2**29


def first_state(config: Config, frame: Images) -> State:
    """Returns the state before any frame has been seen; None where the tail sees no state."""
    return encoder_of(config, "tail").first_state(frame)


def next_state(config: Config, params: Params, state: State, frame: Images) -> State:
    """Returns the state once `frame`, without noise and on the metric's grid, has been seen."""
    return encoder_of(config, "tail").next_state(params["context"], state, frame)


def with_past(
    config: Config, params: Params, keys: Key[Array, " batch"], state: State, labels: Labels
) -> State:
    """Returns the state to continue from that has seen a single frame, from one key per video.

    Where the context encoder can, it draws a frame before that one, which shows how things move.
    """
    draw = encoder_of(config, "tail").with_past
    return state if draw is None else draw(params["context"], keys, state, labels)


def conditioning(
    config: Config,
    previous: Float[Array, "*batch height width channels"],
    state: State,
    labels: Int[Array, "*batch"],
) -> Conditioning:
    """Returns what the tail sees of these, as the variant says."""
    sees = config.sees("tail")
    return Conditioning(
        label=labels if sees.label else None,
        previous=previous if sees.previous else None,
        state=state,
    )


def conditionings(config: Config, params: Params, frames: Frames, labels: Labels) -> Conditioning:
    """Returns what the tail sees after each of the frames [B, T, H, W, 3]: arrays [B, T, ...].

    Entry t holds frame t and the state that has seen frames 0..t, and conditions frame t + 1. The
    state is scanned over time.
    """
    if not config.sees("tail").state:
        states = None
    else:
        # The backward pass keeps the states alone: the encoder's step is cheap to run again.
        @functools.partial(jax.checkpoint, prevent_cse=False)
        def body(state: State, frame: Images) -> tuple[State, State]:
            state = next_state(config, params, state, frame)
            return state, state

        in_time = jnp.moveaxis(frames, 1, 0)
        _, states = lax.scan(body, first_state(config, in_time[0]), in_time)
        states = jax.tree.map(lambda s: jnp.moveaxis(s, 0, 1), states)
    repeated = jnp.repeat(labels[:, None], frames.shape[1], axis=1)
    return conditioning(config, frames, states, repeated)


def _fold_time(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def init(config: Config, key: PRNGKeyArray, frames: TailFrames) -> Params:
    """Returns parameters, with data-dependent ones set from the first batch.

    The encoder's are set from all clean frames, the flow's from the modelled ones.
    """
    flow_key, context_key = jax.random.split(key)
    encoder = encoder_of(config, "tail")
    context = encoder.init(context_key, frames.labels, _fold_time(frames.clean))
    params: dict[str, Params] = {"context": context}
    x, seen = modelled_and_seen(config, params, frames)
    contexts = encoder.encode(context, seen)
    return params | {"flow": flow_of(config, "tail").init(flow_key, x, contexts)}


def frames_at_once(config: Config, shape: Shape | None = None) -> int:
    """Returns how many frames pass through the flow together: config.tail_chunk, if it is set.

    Otherwise it is as many as keep half a gigabyte of activations for the backward pass.

    Args:
        config: the run's.
        shape: of what is modelled, [H, W, C]; by default whole frames.
    """
    if config.tail_chunk is not None:
        return config.tail_chunk
    channels = encoder_of(config, "tail").channels
    numbers = flow_of(config, "tail").activation_size(shape or frame_shape(config), channels)
    return max(_ACTIVATION_BYTES // (4 * numbers), 1)


def modelled_and_seen(
    config: Config, params: Params, frames: TailFrames
) -> tuple[Folded, Conditioning]:
    """Returns the modelled frames and what is seen with each, batch and time folded into N.

    The states depend on real frames alone, so frames need not wait for each other.
    """
    return modelled_of(frames, conditionings(config, params, frames.clean, frames.labels))


def modelled_of(frames: TailFrames, seen: Conditioning) -> tuple[Folded, Conditioning]:
    """Returns the same, where what is seen after each of the clean frames is known."""
    return _fold_time(frames.x), _fold_time(pick(seen, frames.picked))


def auxiliary_loss(
    config: Config,
    params: Params,
    keys: Key[Array, " batch"],
    frames: TailFrames,
    seen: Conditioning,
) -> tuple[Array, dict[str, Array]]:
    """Returns the training loss of the encoder itself and parts to log: 0 where it has none.

    Args:
        config: the run's.
        params: the tail's.
        keys: one per clip, for this use alone.
        frames: the clips.
        seen: what is seen after each of the clean frames.
    """
    loss = encoder_of(config, "tail").auxiliary_loss
    if loss is None:
        return jnp.zeros(()), {}
    return loss(params["context"], keys, frames.clean, seen.state, frames.labels)


def frames_log_prob(config: Config, params: Params, x: Folded, seen: Conditioning) -> Density:
    """Returns log p(frame | what is seen) of frames [N, H, W, 3], in nats, [N] (equation 3)."""
    contexts = encoder_of(config, "tail").encode(params["context"], seen)
    return flow_of(config, "tail").log_prob(params["flow"], x, contexts)


def log_prob(config: Config, params: Params, frames: TailFrames) -> Density:
    """Returns log p(frame | frames before it) under teacher forcing, in nats, [B, F] (equation 3).

    `frames_at_once` of the frames pass through the flow together.
    """
    density = chunks.each(
        lambda chunk: frames_log_prob(config, params, *chunk),
        modelled_and_seen(config, params, frames),
        frames_at_once(config),
    )
    of_frames: Density = jax.tree.map(lambda term: term.reshape(frames.x.shape[:2]), density)
    return of_frames


def reconstruct(config: Config, params: Params, frames: TailFrames) -> Modelled:
    """Encodes frames [B, F, H, W, 3] to latents and decodes these: the frames, up to rounding."""
    flow = flow_of(config, "tail")
    x, seen = modelled_and_seen(config, params, frames)
    contexts = encoder_of(config, "tail").encode(params["context"], seen)
    latents = flow.encode(params["flow"], x, contexts)
    return flow.decode(params["flow"], latents, contexts).reshape(frames.x.shape)


def prepare(config: Config, params: Params) -> Params:
    """Returns parameters for many calls of `sample`, with what these share computed once."""
    return {**params, "flow": flow_of(config, "tail").prepare(params["flow"])}


def sample(
    config: Config,
    params: Params,
    keys: Key[Array, " batch"],
    seen: Conditioning,
    how: Drawing,
) -> Images:
    """Samples the next frame [B, H, W, 3] in the flow's units, from one key per video."""
    encode = functools.partial(encoder_of(config, "tail").encode, params["context"])
    guidance = None
    if how.guidance is not None:
        assert seen.label is not None  # otherwise there is no guidance
        untold = seen._replace(label=jnp.full_like(seen.label, config.num_labels))
        guidance = Guidance(how.guidance, encode(untold))
    return flow_of(config, "tail").sample(
        params["flow"], keys, frame_shape(config), encode(seen), how.temperature, guidance
    )
