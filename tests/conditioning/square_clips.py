"""Clips of moving squares, and layers of them, for the tests of layers and of hindsight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from flowvid.conditioning.unet import layers, memory

SIZE = 12
NETWORK = layers.LayerNetwork(width=8, factor=1, levels=1)


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


# Compiled as a whole: operation by operation, each would be compiled by itself.
apply = jax.jit(NETWORK.apply)


@jax.jit
def states_of(videos):
    """The memory after each frame, arrays [B, T, ...]."""

    def step(state, frame):
        state = memory.next_memory(state, frame)
        return state, state

    first = memory.first_memory(videos[:, 0])
    _, found = lax.scan(step, first, jnp.moveaxis(videos, 1, 0))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), found)


def last_of(states):
    return jax.tree.map(lambda x: np.asarray(x)[:, -1], states)


@functools.cache
def drawn():
    """Untrained parameters."""
    return jax.jit(NETWORK.init)(jax.random.key(0), last_of(states_of(clips(2, 6))))
