"""Random keys, folded from (seed, use, step, example), never from the device or a running state.

So a resumed run draws what the unbroken run draws, and any number of devices draws the same.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int, Key, PRNGKeyArray, UInt32

# What a seed's randomness is for; folded in first, so that no two uses share a key.
HEAD, TAIL, PARAMS, SAMPLES, GAN_GENERATOR, GAN_DISCRIMINATOR = range(6)


def stream_key(seed: int, stream: int) -> PRNGKeyArray:
    """The key of one of the uses of a seed, `HEAD` and the others."""
    return jax.random.fold_in(jax.random.key(seed), stream)


def example_keys(
    seed: int, step: Int[Array, ""] | int, index: UInt32[Array, " batch"], stream: int
) -> Key[Array, " batch"]:
    """A key per example, folded from (seed, stream, step, global index of the example)."""
    key = jax.random.fold_in(stream_key(seed, stream), step)
    return jax.vmap(functools.partial(jax.random.fold_in, key))(index)


def video_keys(seed: int, num_videos: int) -> Key[Array, " batch"]:
    """A key per sampled video, folded from (seed, index): the first do not depend on how many."""
    fold = functools.partial(jax.random.fold_in, stream_key(seed, SAMPLES))
    return jax.vmap(fold)(jnp.arange(num_videos, dtype=jnp.uint32))


def frame_keys(keys: Key[Array, " batch"], frame: Array | int) -> Key[Array, " batch"]:
    """The keys of one frame of each sampled video."""
    return jax.vmap(lambda key: jax.random.fold_in(key, frame))(keys)
