"""Training approaches the entropy of a known distribution from above, and never passes below it."""

import functools

import jax
import numpy as np
import pytest

from flowvid.config.making import preset_config
from flowvid.parallel.devices import replicate, shard, unreplicate
from flowvid.training import train_state, trainer
from flowvid.video import joint
from flowvid.video.frames import Batch

SIZE, DIMS, BINS = 8, 8 * 8 * 3, 32
BATCH_SIZE, HELD_OUT, EVALUATE_EVERY = 64, 256, 100


def images(rng, noise, count, first):
    """Returns images as videos of one frame, keyed by their indices from `first`.

    Each image has a grey level, which is one of 32 / `noise`. Each of its values lies in one of the
    `noise` bins of that level. Grey levels and bins are independent and uniform.
    """
    grey = rng.integers(0, BINS // noise, (count, 1, 1, 1, 1))
    bins = noise * grey + rng.integers(0, noise, (count, 1, SIZE, SIZE, 3))
    dropped = rng.integers(0, 8, bins.shape)  # the 3 bits that the 5-bit metric drops
    index = np.arange(first, first + count, dtype=np.uint32)
    return Batch((8 * bins + dropped).astype(np.uint8), np.zeros(count, np.int32), index)


def entropy(noise):
    """Returns the entropy in bits per dimension; an image determines its grey level."""
    return np.log2(noise) + np.log2(BINS / noise) / DIMS


def best_gaussian(noise):
    """Returns the cross entropy, in bits per dimension, of the Gaussian with the same covariance.

    It exceeds the entropy mainly by log2(2 pi e / 12) / 2 = 0.25 bits, for the approximation of
    uniform noise by a Gaussian. A Glow can represent it.
    """
    ratio = (BINS / noise) ** 2 - 1  # variance of the grey level over that of the noise
    return (
        np.log2(noise) + np.log2(2 * np.pi * np.e / 12) / 2 + np.log2(1 + DIMS * ratio) / (2 * DIMS)
    )


@pytest.mark.parametrize(("noise", "coupling", "gap"), [(4, "additive", 0.05), (1, "affine", 0.3)])
def test_bits_per_dim_approach_the_entropy_from_above(noise, coupling, gap):
    """It comes within `gap` bits of the best Gaussian."""
    config = preset_config(
        "paper_small", num_frames=1, image_size=SIZE, levels=2, head_steps=3, width=24,
        batch_size=BATCH_SIZE, learning_rate=5e-3, warmup_steps=20, num_steps=300,
        coupling=coupling,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    batch = images(rng, noise, BATCH_SIZE, 0)
    params = jax.jit(functools.partial(joint.init_params, config))(batch)["head"]
    state = replicate(train_state.create(config, params, trainer.optimisers(config)["head"]))
    train_step = trainer.train_steps(config)["head"]
    evaluate = jax.jit(functools.partial(joint.eval_step, config, config.metric, config.seed))
    held_out = images(np.random.default_rng(1), noise, HELD_OUT, 0)

    means = []
    for step in range(config.num_steps + 1):
        if step % EVALUATE_EVERY == 0:
            bits = np.asarray(evaluate({"head": unreplicate(state).params}, held_out).head)
            means.append(bits.mean())
            standard_error = bits.std() / np.sqrt(HELD_OUT)
            assert means[-1] >= entropy(noise) - standard_error, step
        batch = images(rng, noise, BATCH_SIZE, step * BATCH_SIZE)
        state, logs = train_step(state, shard(batch))
        jax.block_until_ready(logs)  # long queues of steps deadlock on virtual devices
    assert means[0] > best_gaussian(noise) + 1
    assert means[-1] < best_gaussian(noise) + gap
