"""The GAN's networks: shapes, shared parameters, and which frames and labels they depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gan_cases import CHANNELS, batch, generate, image, initial, moved, score, tiny
from helpers import assert_same

from flowvid.gan import model, networks
from flowvid.gan import steps as gan_steps


def shapes(pyramid):
    return [maps.shape for maps in pyramid]


def test_a_pyramid_halves_from_level_to_level():
    net = networks.UNet(CHANNELS)
    params = jax.jit(net.init)(jax.random.key(0), image(2, 8, 8, 5))
    pyramid = jax.jit(net.apply)(params, image(2, 8, 8, 5))
    assert shapes(pyramid) == [(2, 8, 8, 3), (2, 4, 4, 4), (2, 2, 2, 4)]


@pytest.fixture(scope="module")
def view():
    net = networks.ViewNet(CHANNELS)
    pyramid = tuple(image(1, 8 // 2**level, 8 // 2**level, c) for level, c in enumerate(CHANNELS))
    params = moved(jax.jit(net.init)(jax.random.key(0), image(1, 8, 8, 3), pyramid))
    return net, params, pyramid


def test_a_view_net_adds_to_the_old_pyramid(view):
    net, params, pyramid = view
    nothing = jax.tree.map(jnp.zeros_like, params)
    apply = jax.jit(net.apply)
    assert_same(apply(nothing, image(1, 8, 8, 3), pyramid), pyramid)
    assert shapes(apply(params, image(1, 8, 8, 3), pyramid)) == shapes(pyramid)


def test_a_view_net_reads_every_level_of_the_old_pyramid(view):
    """The change of the frame depends on it, apart from the skip connection of its level."""
    net, params, pyramid = view

    def change(old):
        return jnp.sum((net.apply(params, image(1, 8, 8, 3), old)[0] - old[0]) ** 2)

    for level, gradient in enumerate(jax.jit(jax.grad(change))(pyramid)):
        assert np.abs(gradient).max() > 1e-4, level


def test_generated_videos_have_the_shape_and_range_of_data():
    settings = tiny()
    params = initial(settings)
    keys = jax.random.split(jax.random.key(1), 2)
    videos = generate(settings, params["generator"], keys, jnp.zeros(2, int))
    assert videos.shape == (2, 3, 8, 8, 3)
    assert np.abs(videos).max() < 1
    assert model.to_pixels(videos).dtype == np.uint8


def test_conversion_of_pixels_round_trips():
    pixels = jnp.arange(256, dtype=jnp.uint8).reshape(1, 1, 16, 16, 1)
    np.testing.assert_array_equal(model.to_pixels(model.from_pixels(pixels)), pixels)


@pytest.mark.parametrize("name", gan_steps.NAMES)
def test_later_frames_share_their_parameters_and_the_first_has_its_own(name):
    few, many = (initial(tiny(num_frames=n)) for n in (3, 7))
    assert jax.tree.map(jnp.shape, few[name]) == jax.tree.map(jnp.shape, many[name])
    network = few[name]["network"]["params"]
    first = {"first", "first_views"} if name == "generator" else {"first"}
    assert set(network) == first | {"tail"}


def test_each_view_net_of_the_first_frame_has_its_own_parameters():
    params = initial(tiny())["generator"]["network"]["params"]
    for kernel in jax.tree.leaves(params["first_views"]):
        assert kernel.shape[0] == 2
        if np.abs(kernel).max() > 0:  # not a bias
            assert not np.array_equal(kernel[0], kernel[1])


def test_gradients_flow_from_every_frame_to_the_first_layer():
    settings = tiny()
    params = moved(initial(settings)["generator"])
    keys = jax.random.split(jax.random.key(1), 2)

    def brightness(params):
        videos = generate(settings, params, keys, jnp.zeros(2, int))
        return jnp.mean(videos, axis=(0, 2, 3, 4))

    network = jax.jit(jax.jacrev(brightness))(params)["network"]["params"]
    for frame in range(3):
        assert np.abs(network["first"]["Conv_0"]["kernel"][frame]).max() > 1e-6
        reaches = any(np.abs(leaf[frame]).max() > 0 for leaf in jax.tree.leaves(network["tail"]))
        assert reaches == (frame > 0)


def test_the_discriminator_reads_every_frame():
    settings = tiny()
    params = moved(initial(settings)["discriminator"])
    videos = model.from_pixels(batch().video)
    total = lambda x: jnp.sum(score(settings, params, x, jnp.zeros(4, int)))  # noqa: E731
    gradient = jax.jit(jax.grad(total))(videos)
    assert (np.abs(gradient).max(axis=(0, 2, 3, 4)) > 0).all()


def test_the_discriminator_equals_a_loop_over_frames():
    channels = (1, 4, 4)
    net = networks.Discriminator(channels)
    videos = model.from_pixels(batch().video)
    params = moved(jax.jit(net.init)(jax.random.key(0), videos))
    first, tail = ({"params": params["params"][name]} for name in ("first", "tail"))
    unet, view = (jax.jit(of(channels).apply) for of in (networks.UNet, networks.ViewNet))
    videos = np.asarray(videos)
    pyramids = [unet(first, videos[:, 0])]
    for frame in (1, 2):
        pyramids.append(view(tail, videos[:, frame], pyramids[-1]))
    scores = [np.mean(pyramid[0], axis=(1, 2, 3)) for pyramid in pyramids]
    np.testing.assert_allclose(
        jax.jit(net.apply)(params, videos), np.mean(scores, axis=0), rtol=1e-4
    )


def test_the_generator_equals_a_loop_over_frames():
    net = networks.Generator(CHANNELS, first_views=0, num_frames=3)
    noise = image(2, 8, 8, 5)
    params = jax.tree.map(lambda x: x / 3, moved(jax.jit(net.init)(jax.random.key(0), noise)))
    first, tail = ({"params": params["params"][name]} for name in ("first", "tail"))
    pyramid = jax.jit(networks.UNet(CHANNELS).apply)(first, noise)
    frames = [jnp.tanh(pyramid[0])]
    view = jax.jit(networks.ViewNet(CHANNELS, networks.CHANGE).apply)
    for _ in range(2):
        pyramid = view(tail, frames[-1], pyramid)
        frames.append(jnp.tanh(pyramid[0]))
    np.testing.assert_allclose(
        jax.jit(net.apply)(params, noise), jnp.stack(frames, 1), rtol=1e-4, atol=1e-5
    )


def test_single_images_need_no_tail():
    settings = tiny(num_frames=1)
    params = initial(settings)
    keys = jax.random.split(jax.random.key(1), 2)
    images = generate(settings, params["generator"], keys, jnp.zeros(2, int))
    assert images.shape == (2, 1, 8, 8, 3)
    assert score(settings, params["discriminator"], images, jnp.zeros(2, int)).shape == (2,)
    assert "tail" not in params["generator"]["network"]["params"]


def test_both_models_depend_on_labels_and_label_images_have_gradients():
    settings = tiny(labels=True)
    params = initial(settings)
    keys = jax.random.split(jax.random.key(1), 2)
    zeros, ones = jnp.zeros(2, int), jnp.ones(2, int)
    made = [generate(settings, params["generator"], keys, y) for y in (zeros, ones)]
    assert not np.allclose(made[0], made[1])
    scores = [score(settings, params["discriminator"], made[0], y) for y in (zeros, ones)]
    assert not np.allclose(scores[0], scores[1])
    judge = params["discriminator"]
    loss = lambda p: gan_steps.generator_loss(settings, p, judge, keys, ones)[0]  # noqa: E731
    gradient = jax.jit(jax.grad(loss))(params["generator"])
    images = gradient["labels"]["params"]["images"]
    assert np.abs(images[1]).max() > 0
    assert np.abs(images[0]).max() == 0
