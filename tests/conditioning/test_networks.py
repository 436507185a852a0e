"""Networks have the paper's sizes, start as documented, and receive the right gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowvid.conditioning.networks import ContextProcessor, ContextPyramid, LabelImages
from flowvid.config.making import preset_config
from flowvid.flows.coupling_network import CouplingNetwork, ZeroConv
from flowvid.training import train_state
from flowvid.video import head, joint


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def num_parameters(init, *arguments):
    return train_state.num_parameters(jax.eval_shape(init, jax.random.key(0), *arguments))


def test_zero_conv_starts_at_zero_and_scales_by_exp_3_scale():
    x = normal(2, 4, 6, 3)
    params = jax.jit(ZeroConv(5).init)(jax.random.key(0), x)
    apply = jax.jit(ZeroConv(5).apply)
    np.testing.assert_array_equal(apply(params, x), np.zeros((2, 4, 6, 5)))

    params = jax.tree.map(lambda p: p + 0.1, params)
    unscaled = jax.tree_util.tree_map_with_path(
        lambda path, p: 0 * p if path[-1].key == "scale" else p, params
    )
    np.testing.assert_allclose(
        apply(params, x), np.asarray(apply(unscaled, x)) * np.exp(0.3), rtol=1e-5
    )


def test_coupling_network_starts_at_zero():
    x = normal(2, 4, 6, 3)
    network = CouplingNetwork(width=8, features=4)
    params = jax.jit(network.init)(jax.random.key(0), x)
    np.testing.assert_array_equal(jax.jit(network.apply)(params, x), np.zeros((2, 4, 6, 4)))
    # Convolutions 3x3 from 3 to 8, 1x1 from 8 to 8 and 3x3 from 8 to 4, biases, and the scale.
    assert train_state.num_parameters(params) == (27 * 8 + 8) + (64 + 8) + (72 * 4 + 4) + 4


def test_pyramid_halves_the_resolution_and_keeps_the_channels():
    raw = normal(2, 16, 8, 5)
    pyramid = ContextPyramid(levels=4)
    params = jax.jit(pyramid.init)(jax.random.key(0), raw)
    maps = jax.jit(pyramid.apply)(params, raw)
    assert [m.shape for m in maps] == [(2, 16, 8, 5), (2, 8, 4, 5), (2, 4, 2, 5), (2, 2, 1, 5)]
    np.testing.assert_array_equal(maps[0], raw)
    # There is a ReLU between convolutions, but none between the raw context and the first one.
    negative = jnp.where(maps[1] < 0, maps[1] - 1, maps[1])
    below = jax.jit(ContextPyramid(levels=3).apply)
    shifted = {"params": {f"Conv_{i}": params["params"][f"Conv_{i + 1}"] for i in range(2)}}
    assert float(jnp.abs(below(shifted, negative)[1] - maps[2]).max()) > 1e-3
    rectified = below(shifted, jnp.maximum(negative, 0))
    np.testing.assert_allclose(rectified[1], maps[2], rtol=1e-5, atol=1e-5)


def test_a_pyramid_of_one_level_has_no_parameters():
    raw = normal(2, 4, 4, 3)
    variables = ContextPyramid(levels=1).init(jax.random.key(0), raw)
    assert not jax.tree.leaves(variables)
    assert len(ContextPyramid(levels=1).apply(variables, raw)) == 1


@pytest.fixture
def processor():
    """A processor of state 4 and its parameters, state and frame [2, 4, 6, .]."""
    previous, frame = normal(2, 4, 6, 4), 3 + 2 * normal(2, 4, 6, 3)
    params = jax.jit(ContextProcessor().init)(jax.random.key(0), previous, frame)["params"]
    return params, previous, frame


def test_processor_has_the_papers_number_of_parameters():
    images = jnp.zeros((1, 8, 8, 16)), jnp.zeros((1, 8, 8, 3))
    assert num_parameters(ContextProcessor().init, *images) == 10_166


def test_processor_adds_to_the_state(processor):
    (params, previous, frame), apply = processor, jax.jit(ContextProcessor().apply)
    # Its last convolution starts at zero, so that the state is unchanged.
    np.testing.assert_array_equal(apply({"params": params}, previous, frame), previous)
    moving = params | {"Conv_1": jax.tree.map(lambda p: p + 0.1, params["Conv_1"])}
    moved = apply({"params": moving}, previous, frame)
    assert moved.shape == previous.shape
    assert float(jnp.abs(moved - previous).max()) > 0.1


def test_processor_normalises_its_first_batch(processor):
    _, _, frame = processor
    init = jax.jit(ContextProcessor().init)
    params = init(jax.random.key(0), jnp.zeros((2, 4, 6, 4)), frame)["params"]
    shift, log_scale = (params[name][None, None, None, :3] for name in ("shift", "log_scale"))
    y = (frame + shift) * jnp.exp(log_scale)
    np.testing.assert_allclose(jnp.mean(y, (0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(jnp.std(y, (0, 1, 2)), 1, rtol=1e-5)
    # The first state is zero and has no variance: its channels start as the identity.
    np.testing.assert_array_equal(params["shift"][3:], 0)
    np.testing.assert_array_equal(params["log_scale"][3:], 0)


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0])
def test_label_images_are_looked_up_and_only_those_have_gradients(scale):
    labels = jnp.array([2, 0, 2])
    module = LabelImages(num_labels=4, height=4, width=6, channels=3, scale=scale)
    params = module.init(jax.random.key(0), labels)
    images = params["params"]["images"]
    assert images.shape == (4, 4, 6, 3)
    assert abs(float(jnp.std(images)) - scale) <= 0.15 * scale  # 288 draws
    np.testing.assert_array_equal(module.apply(params, labels), images[labels])
    gradient = jax.grad(lambda p: jnp.sum(module.apply(p, labels)))(params)["params"]["images"]
    np.testing.assert_array_equal(gradient[:, 0, 0, 0], [1, 0, 2, 0])


def test_coarse_label_images_are_enlarged_pixel_by_pixel():
    labels = jnp.array([1, 0])
    module = LabelImages(num_labels=2, height=4, width=6, channels=3, enlarged=2)
    params = module.init(jax.random.key(0), labels)
    images = params["params"]["images"]
    assert images.shape == (2, 2, 3, 3)
    shown = module.apply(params, labels)
    assert shown.shape == (2, 4, 6, 3)
    for row, column in ((0, 0), (3, 5), (1, 2)):
        np.testing.assert_array_equal(shown[:, row, column], images[labels, row // 2, column // 2])


# The parameters that the paper's appendix counts, in millions.
@pytest.mark.parametrize(
    ("variant", "low", "high"), [("prev_frame", 2.1, 2.4), ("state", 3.3, 3.6)]
)
def test_the_papers_tail_has_its_size(variant, low, high):
    template = joint.params_template(preset_config("paper", variant=variant))
    assert low <= train_state.num_parameters(template["tail"]) / 1e6 <= high


def test_the_papers_head_has_its_size():
    config = preset_config("paper")
    frame, label = jnp.zeros((1, 64, 64, 3)), jnp.zeros(1, jnp.int32)
    millions = num_parameters(functools.partial(head.init, config), frame, label) / 1e6
    assert 60.6 <= millions <= 61.2
