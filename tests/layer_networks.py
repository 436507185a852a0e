"""A tiny network of layers, clips of squares that move, and the states after their frames."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from flowvid.conditioning.unet import hindsight, kinds, layers, memory

SIZE, KINDS = 12, 2
NETWORK = layers.LayerNetwork(width=8, factor=1, levels=1, kinds=KINDS)


def clips(count, frames, seed=0):
    """Bright 4x4 squares that move over a dark, textured ground, [B, T, H, W, 3]."""
    rng = np.random.default_rng(seed)
    found = np.repeat(rng.uniform(-0.4, -0.3, (count, 1, SIZE, SIZE, 3)), frames, axis=1)
    for clip in found:
        step = rng.choice([-1, 1], 2) * (rng.random(2) < 0.8)
        place = np.where(step > 0, 0, SIZE - 4) + step * rng.integers(0, 3, 2)
        colour = rng.uniform(0, 0.5, 3)
        for number, frame in enumerate(clip):
            row, column = np.clip(place + number * step, 0, SIZE - 4)
            frame[row : row + 4, column : column + 4] = colour
    return jnp.asarray(found, jnp.float32)


def next_state(params, state, frame):
    seen = memory.next_memory(state.memory, frame)
    return hindsight.State(seen, state.track, NETWORK.apply(params, seen, state.track).track)


def first_state(frame):
    track = kinds.first_track(frame, KINDS, layers.NUM_KNOWN)
    return hindsight.State(memory.first_memory(frame), track, track)


@jax.jit
def states_of(params, videos):
    """The state after each frame, arrays [B, T, ...]."""

    def step(state, frame):
        state = next_state(params, state, frame)
        return state, state

    first = first_state(videos[:, 0])
    _, found = lax.scan(step, first, jnp.moveaxis(videos, 1, 0))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), found)


def last_of(states):
    return jax.tree.map(lambda x: np.asarray(x)[:, -1], states)


@functools.cache
def drawn():
    """Untrained parameters."""
    state = first_state(clips(2, 1)[:, 0])
    return jax.jit(NETWORK.init)(jax.random.key(0), state.memory, state.before)


def learner_of(params, log_prior=None):
    return hindsight.Learner(
        layers=functools.partial(NETWORK.apply, params),
        change=lambda objects: NETWORK.apply(params, objects, method="change"),
        next_state=functools.partial(next_state, lax.stop_gradient(params)),
        log_prior=log_prior,
    )
