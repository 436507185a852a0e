"""Random keys, folded from (seed, stream, step, example), never from the device or a running state.

So a resumed run draws what an uninterrupted run draws, and any number of devices draws the same.

A key is either folded (or split) further, or used to draw numbers, and never both: JAX's `fold_in`
and its random bits are the same function of a key, so a folded key would repeat words of the noise.
"""

import enum
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int, Key, PRNGKeyArray, UInt32

MAX_SEED = 2**32 - 1


class Stream(enum.IntEnum):
    """Everything that a seed's randomness is used for. No two uses share a stream."""

    HEAD_PARAMETERS = 0
    TAIL_PARAMETERS = 1
    GAN_PARAMETERS = 2
    # Noise of dequantisation, and which frames the tail models: in the first batch, from which
    # parameters are initialised, ...
    INITIALISATION_HEAD = 3
    INITIALISATION_TAIL = 4
    INITIALISATION_CHOICE = 5
    # ... in training steps, ...
    TRAINING_HEAD = 6
    TRAINING_TAIL = 7
    TRAINING_CHOICE = 8
    # ... in validations during training, ...
    VALIDATION_HEAD = 9
    VALIDATION_TAIL = 10
    VALIDATION_CHOICE = 11
    # ... in evaluations of a finished run, ...
    EVALUATION_HEAD = 12
    EVALUATION_TAIL = 13
    EVALUATION_CHOICE = 14
    # ... and in the round trips of the stability watch.
    STABILITY_HEAD = 15
    STABILITY_TAIL = 16
    STABILITY_CHOICE = 17
    SAMPLES = 18
    GAN_DISCRIMINATOR = 19
    GAN_GENERATOR = 20
    TRAINING_ENCODER = 21  # auxiliary losses of context encoders
    TRAINING_HEAD_CHOICE = 22  # which frames the head models
    TRAINING_LABEL_DROPOUT = 23  # whose label is not told
    TRAINING_LABEL_CONTRAST = 24  # which other label is compared
    SCORES = 25  # noise of frames that are scored one after another
    TRAINING_MIRROR = 26  # which clips are mirrored
    TRAINING_CROP = 27  # where the tail's window is


# Numbers that may be traced, so that one compiled program serves all of them.
Seed = Int[Array, ""] | UInt32[Array, ""] | int
AnyStream = Stream | UInt32[Array, ""]


class FrameStreams(NamedTuple):
    """The streams of one use of a batch's frames."""

    head: AnyStream  # noise of first frames
    tail: AnyStream  # noise of later frames
    choice: AnyStream  # which later frames are drawn from a clip


INITIALISATION = FrameStreams(
    Stream.INITIALISATION_HEAD, Stream.INITIALISATION_TAIL, Stream.INITIALISATION_CHOICE
)
TRAINING = FrameStreams(Stream.TRAINING_HEAD, Stream.TRAINING_TAIL, Stream.TRAINING_CHOICE)
VALIDATION = FrameStreams(Stream.VALIDATION_HEAD, Stream.VALIDATION_TAIL, Stream.VALIDATION_CHOICE)
EVALUATION = FrameStreams(Stream.EVALUATION_HEAD, Stream.EVALUATION_TAIL, Stream.EVALUATION_CHOICE)
STABILITY = FrameStreams(Stream.STABILITY_HEAD, Stream.STABILITY_TAIL, Stream.STABILITY_CHOICE)


class FrameKeys(NamedTuple):
    """Keys of a batch's frames, one per example each."""

    head: Key[Array, " batch"]
    tail: Key[Array, " batch"]
    choice: Key[Array, " batch"]


def stream_key(seed: Seed, stream: AnyStream) -> PRNGKeyArray:
    """Returns the key of one of the uses of a seed."""
    number = int(stream) if isinstance(stream, Stream) else stream
    return jax.random.fold_in(jax.random.key(seed), number)


def example_keys(
    seed: Seed, step: Seed, index: UInt32[Array, " batch"], stream: AnyStream
) -> Key[Array, " batch"]:
    """Returns one key per example, folded from (seed, stream, step, the example's index)."""
    key = jax.random.fold_in(stream_key(seed, stream), step)
    return jax.vmap(functools.partial(jax.random.fold_in, key))(index)


def keys_of_frames(
    seed: Seed, streams: FrameStreams, step: Seed, index: UInt32[Array, " batch"]
) -> FrameKeys:
    """Returns the keys for one use of a batch's frames, such as `TRAINING`.

    Args:
        seed: the run's or the evaluation's.
        streams: the use.
        step: of training, or the number of the noise draw.
        index: the global index of each example.
    """
    return FrameKeys(*(example_keys(seed, step, index, stream) for stream in streams))


def video_keys(seed: int, num_videos: int) -> Key[Array, " batch"]:
    """Returns one key per sampled video, folded from (seed, index).

    The first keys do not depend on how many there are.
    """
    fold = functools.partial(jax.random.fold_in, stream_key(seed, Stream.SAMPLES))
    return jax.vmap(fold)(jnp.arange(num_videos, dtype=jnp.uint32))


def past_keys(keys: Key[Array, " batch"]) -> Key[Array, " batch"]:
    """Returns the keys of what was before the first frame of each sampled video."""
    return frame_keys(keys, np.uint32(2**32 - 1))  # the number of no frame


def frame_keys(keys: Key[Array, " batch"], frame: Array | np.uint32 | int) -> Key[Array, " batch"]:
    """Returns the keys of one frame of each sampled video."""
    return jax.vmap(lambda key: jax.random.fold_in(key, frame))(keys)
