"""Model.encode and Model.decode: exact inverses, mixtures of latents, levels drawn anew."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from coder_models import model_of
from helpers import drawn_params
from tiny_models import LABELS, SIZE

from flowvid.config.making import preset_config
from flowvid.errors import ConfigError
from flowvid.video import head, joint
from flowvid.video.build import flow_of
from flowvid.video.frames import Batch
from flowvid.video.latents import VideoLatents
from flowvid.video.model import Model
from flowvid.video.pixels import to_grid

VIDEOS, FRAMES = 3, 4


def glow(**changes):
    """A model of Glow with random parameters."""
    sizes = {"levels": 2, "head_steps": 2, "tail_steps": 2, "width": 6, "state_size": 3}
    fields = {"image_size": SIZE, "num_labels": LABELS, "variant": "state_label"} | sizes
    config = preset_config("paper_small", **fields | changes)
    zeros = np.zeros((2, 3, SIZE, SIZE, 3), np.uint8)
    batch = Batch(zeros, np.zeros(2, np.int32), np.zeros(2, np.uint32))
    params = drawn_params(jax.eval_shape(functools.partial(joint.init_params, config), batch))
    return Model(config, tuple("abc"), params, 0, averaged=False)


def narrow():
    """A model of bins whose mixtures are so narrow that the last bit of a parameter counts."""
    own = model_of()
    return dataclasses.replace(own, params=jax.tree.map(lambda p: 4 * p, own.params))


MODELS = {
    "mixture, 8 bits": model_of,
    "mixture, 5 bits": functools.partial(model_of, n_bits=5),
    "mixture, narrow": narrow,
    "glow, 5 bits": glow,
    "glow, paper": functools.partial(glow, dequantization="paper"),
}


@functools.cache
def model(name):
    return MODELS[name]()


@pytest.fixture(scope="module")
def filmed():
    """Random videos and their labels."""
    rng = np.random.default_rng(0)
    videos = rng.integers(0, 256, (VIDEOS, FRAMES, SIZE, SIZE, 3), np.uint8)
    return videos, np.arange(VIDEOS) % LABELS


@pytest.mark.parametrize("name", MODELS)
def test_every_pixel_or_bin_comes_back(name, filmed):
    videos, labels = filmed
    if name == "glow, paper":
        videos = np.clip(videos, 8, 247)
    z = model(name).encode(videos, labels)
    assert len(z.frames) == FRAMES
    size = sum(level[0].size for level in z.frames[0])
    assert size == videos[0, 0].size
    back = model(name).decode(z, labels)
    assert back.dtype == np.uint8
    shift = 3 if name.endswith("5 bits") else 0
    np.testing.assert_array_equal(back >> shift, videos >> shift)


def test_latents_of_bins_are_near_those_of_the_density_and_standard_normal():
    """The flow computes the mixtures of all stages as one program, and in single precision."""
    own = model("mixture, 8 bits")
    videos = own.sample(16, "a", num_frames=1, temperature=1.0, guidance=1.0).videos
    (exact,) = own.encode(videos, np.zeros(16, int)).frames
    flow = flow_of(own.config, "head")
    x = to_grid(jnp.asarray(videos[:, 0]), own.config.metric) + 0.5 / 256
    contexts = head.contexts_of(own.config, own.params["head"], jnp.zeros(16, int))
    near = jax.jit(flow.encode)(own.params["head"]["flow"], x, contexts)
    for of_level, expected in zip(exact, near, strict=True):
        assert of_level.dtype == np.float64
        typical = np.abs(expected) < 4
        assert typical.mean() > 0.99
        np.testing.assert_allclose(of_level[typical], expected[typical], atol=5e-3)
    of_all = np.concatenate([z.ravel() for z in exact])
    error = 1 / np.sqrt(of_all.size)
    assert abs(of_all.mean()) < 4 * error
    assert abs(of_all.std() - 1) < 4 * error


def test_mixtures_of_standard_normal_latents_are_standard_normal():
    rng = np.random.default_rng(0)
    a, b = (
        VideoLatents(((rng.standard_normal((9, 4, 4, 9)), rng.standard_normal((9, 4, 4, 3))),))
        for _ in range(2)
    )
    middle = a.mixed(b, 0.5)
    for of_a, of_b, mixed in zip(a.frames[0], b.frames[0], middle.frames[0], strict=True):
        np.testing.assert_allclose(mixed, (of_a + of_b) / np.sqrt(2))
    np.testing.assert_array_equal(a.mixed(b, 0).frames[0][0], a.frames[0][0])
    np.testing.assert_array_equal(a.mixed(b, 1).frames[0][1], b.frames[0][1])


def test_a_label_changes_what_the_same_latents_show(filmed):
    videos, labels = filmed
    z = model("mixture, 8 bits").encode(videos, labels)
    other = model("mixture, 8 bits").decode(z, (labels + 1) % LABELS)
    assert np.any(other != videos)


def test_a_level_that_is_drawn_anew_leaves_coarser_ones_as_they_are(filmed):
    videos, labels = filmed
    of_first = model("mixture, 8 bits").encode(videos[:, :1], labels)
    new = of_first.redrawn([0], seed=1)
    again = of_first.redrawn([0], seed=1)
    for level, (old, drawn, same) in enumerate(
        zip(of_first.frames[0], new.frames[0], again.frames[0], strict=True)
    ):
        np.testing.assert_array_equal(drawn, same)
        assert np.any(drawn != old) == (level == 0)
    found = model("mixture, 8 bits").decode(new, labels)
    assert np.any(found != videos[:, :1])
    # The next level's image is every other row and column.
    np.testing.assert_array_equal(found[:, :, ::2, ::2], videos[:, :1, ::2, ::2])


def test_what_cannot_be_decoded_is_refused(filmed):
    videos, labels = filmed
    own = model("mixture, 8 bits")
    z = own.encode(videos[:, :2], labels)
    with pytest.raises(ConfigError, match="levels from 0 to"):
        z.redrawn([7])
    with pytest.raises(ConfigError, match=r"the latents of frame 1 are .*, the model's are"):
        own.decode(VideoLatents((z.frames[0], z.frames[1][:1])), labels)
    with pytest.raises(ConfigError, match="there are no latents"):
        own.decode(VideoLatents(()), labels)
    with pytest.raises(ConfigError, match="give 3 of them, one per video"):
        own.decode(z)
    alone = model_of(num_frames=1)
    with pytest.raises(ConfigError, match="has no tail for 2 frames per video"):
        alone.decode(z, labels)
