"""A tiny model of bins with random parameters, for tests of coding and of scores."""

import functools

import jax
import numpy as np
from helpers import drawn_params
from tiny_models import LABELS, MIXTURE_SIZES, SIZE

from flowvid.config.making import preset_config
from flowvid.video import joint
from flowvid.video.frames import Batch
from flowvid.video.model import Model


def model_of(**changes):
    """A model of `label_everywhere` at 8 bits, with changes."""
    fields = {"variant": "label_everywhere", "num_labels": LABELS, "image_size": SIZE, "n_bits": 8}
    config = preset_config("small", **MIXTURE_SIZES | fields | changes)
    batch = Batch(
        np.zeros((2, 4, SIZE, SIZE, 3), np.uint8), np.zeros(2, np.int32), np.zeros(2, np.uint32)
    )
    params = drawn_params(jax.eval_shape(functools.partial(joint.init_params, config), batch))
    return Model(config, tuple("abc"), params, 0, averaged=False)
