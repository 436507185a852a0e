"""Tiny models and a batch for them, which several test files take by `pytest_plugins`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import drawn_params

from flowvid.config.making import preset_config
from flowvid.video import joint
from flowvid.video.frames import Batch

SIZE, FRAMES, BATCH, LABELS = 8, 4, 4, 3
# Of a mixture flow and a U-Net encoder.
MIXTURE_SIZES = {
    "levels": 1,
    "components": 2,
    "stage_width": 4,
    "head_stage_width": 4,
    "head_levels": 1,
    "head_width": 4,
    "head_depth": 1,
    "unet_width": 4,
    "features": 3,
    "layer_width": 4,
    "label_width": 3,
}


def tiny(variant, **changes):
    sizes = {
        "levels": 2,
        "head_steps": 2,
        "tail_steps": 1,
        "width": 8,
        "state_size": 4,
        "image_size": SIZE,
        "num_frames": FRAMES,
        "tail_frames": None,
        "batch_size": BATCH,
        "warmup_steps": 0,
    }
    return preset_config("paper_small", variant=variant, num_labels=LABELS, **sizes | changes)


@pytest.fixture(scope="module")
def batch():
    """Clips [4, 4, 8, 8, 3] of three labels."""
    rng = np.random.default_rng(0)
    return Batch(
        jnp.asarray(rng.integers(0, 256, (BATCH, FRAMES, SIZE, SIZE, 3), np.uint8)),
        jnp.array([0, 2, 2, 1], jnp.int32),
        jnp.arange(100, 100 + BATCH, dtype=jnp.uint32),
    )


@pytest.fixture(scope="module")
def params_of(batch):
    """Parameters of a variant's head and tail, noise throughout, so that every network has a say.

    Only their shapes are from `init_params`: compiling it takes longer than all that uses them.
    """

    @functools.cache
    def params_of(variant, coupling="additive"):
        init = functools.partial(joint.init_params, tiny(variant, coupling=coupling))
        return drawn_params(jax.eval_shape(init, batch))

    return params_of
