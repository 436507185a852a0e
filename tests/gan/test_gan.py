"""The GAN of section V: shapes, parameters, what depends on what, its losses, and whole runs."""

import functools
import json

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import assert_one_line
from helpers import NUM_CLIPS, assert_same, events, relative_distance

from flowvid.errors import ConfigError
from flowvid.gan import config, model, networks, spectral, trained
from flowvid.gan import steps as gan_steps
from flowvid.parallel.devices import on_devices, replicate, shard, unreplicate
from flowvid.video.frames import Batch

pytest_plugins = ["command_line", "system_fixtures"]

TINY = {
    "preset": "small",
    "levels": 2,
    "width": 4,
    "first_views": 2,
    "num_frames": 3,
    "image_size": 8,
    "batch_size": 4,
    "learning_rate": 2e-3,
    "num_steps": 4,
    "eval_every": 2,
    "checkpoint_every": 2,
    "log_every": 1,
    "label_size": 1,
}
CHANNELS = (3, 4, 4)
NUM_LABELS = 8


def tiny(**changes):
    return config.preset_config(**TINY | {"num_labels": NUM_LABELS} | changes)


def batch(num_videos=4, frames=3, size=8):
    rng = np.random.default_rng(0)
    index = np.arange(num_videos, dtype=np.uint32)
    # Bright, so that they are easy to tell from what is generated at the start.
    videos = rng.integers(200, 256, (num_videos, frames, size, size, 3), dtype=np.uint8)
    fields = (videos, (index % NUM_LABELS).astype(np.int32), index)
    return Batch(*map(jnp.asarray, fields))


def moved(params):
    """Parameters at which every one has a say."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), params)


def image(*shape):
    return jnp.asarray(np.random.default_rng(2).normal(size=shape), jnp.float32)


def shapes(pyramid):
    return [maps.shape for maps in pyramid]


def test_a_pyramid_halves_from_level_to_level():
    net = networks.UNet(CHANNELS)
    params = net.init(jax.random.key(0), image(2, 8, 8, 5))
    pyramid = net.apply(params, image(2, 8, 8, 5))
    assert shapes(pyramid) == [(2, 8, 8, 3), (2, 4, 4, 4), (2, 2, 2, 4)]


@pytest.fixture(scope="module")
def view():
    net = networks.ViewNet(CHANNELS)
    pyramid = tuple(image(1, 8 // 2**level, 8 // 2**level, c) for level, c in enumerate(CHANNELS))
    params = moved(net.init(jax.random.key(0), image(1, 8, 8, 3), pyramid))
    return net, params, pyramid


def test_a_view_net_adds_to_the_old_pyramid(view):
    net, params, pyramid = view
    nothing = jax.tree.map(jnp.zeros_like, params)
    assert_same(net.apply(nothing, image(1, 8, 8, 3), pyramid), pyramid)
    assert shapes(net.apply(params, image(1, 8, 8, 3), pyramid)) == shapes(pyramid)


@pytest.mark.parametrize("level", range(len(CHANNELS)))
def test_a_view_net_reads_every_level_of_the_old_pyramid(view, level):
    """What is added to the frame depends on it, not only the skip of the same level."""
    net, params, pyramid = view

    def change(maps):
        old = (*pyramid[:level], maps, *pyramid[level + 1 :])
        return jnp.sum((net.apply(params, image(1, 8, 8, 3), old)[0] - old[0]) ** 2)

    assert np.abs(jax.grad(change)(pyramid[level])).max() > 1e-4


def test_generated_videos_have_the_data_s_shape_and_range():
    settings = tiny()
    params = model.init(settings, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 2)
    videos = model.generate(settings, params["generator"], keys, jnp.zeros(2, int))
    assert videos.shape == (2, 3, 8, 8, 3)
    assert np.abs(videos).max() < 1
    assert model.to_pixels(videos).dtype == np.uint8


def test_pixels_come_back_from_the_generator_s_units():
    pixels = jnp.arange(256, dtype=jnp.uint8).reshape(1, 1, 16, 16, 1)
    np.testing.assert_array_equal(model.to_pixels(model.from_pixels(pixels)), pixels)


@pytest.mark.parametrize("name", gan_steps.NAMES)
def test_later_frames_share_their_parameters_and_the_first_has_its_own(name):
    few, many = (model.init(tiny(num_frames=n), jax.random.key(0)) for n in (3, 7))
    assert jax.tree.map(jnp.shape, few[name]) == jax.tree.map(jnp.shape, many[name])
    network = few[name]["network"]["params"]
    first = {"first", "first_views"} if name == "generator" else {"first"}
    assert set(network) == first | {"tail"}


def test_each_view_net_of_the_first_frame_has_its_own_parameters():
    params = model.init(tiny(), jax.random.key(0))["generator"]["network"]["params"]
    for kernel in jax.tree.leaves(params["first_views"]):
        assert kernel.shape[0] == 2
        if np.abs(kernel).max() > 0:  # not a bias
            assert not np.array_equal(kernel[0], kernel[1])


@pytest.mark.parametrize("frame", range(3))
def test_gradients_flow_from_every_frame_to_the_first_layer(frame):
    settings = tiny()
    params = moved(model.init(settings, jax.random.key(0))["generator"])
    keys = jax.random.split(jax.random.key(1), 2)

    def brightness(params):
        videos = model.generate(settings, params, keys, jnp.zeros(2, int))
        return jnp.mean(videos[:, frame])

    network = jax.grad(brightness)(params)["network"]["params"]
    assert np.abs(network["first"]["Conv_0"]["kernel"]).max() > 1e-6
    reaches_tail = any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(network["tail"]))
    assert reaches_tail == (frame > 0)


@pytest.mark.parametrize("frame", range(3))
def test_the_discriminator_reads_every_frame(frame):
    settings = tiny()
    params = moved(model.init(settings, jax.random.key(0))["discriminator"])
    videos = model.from_pixels(batch().video)
    labels = jnp.zeros(4, int)
    gradient = jax.grad(lambda x: jnp.sum(model.score(settings, params, x, labels)))(videos)
    assert np.abs(gradient[:, frame]).max() > 0


def test_a_score_is_the_mean_over_the_frames_of_a_walk_through_them():
    """The same walk, frame by frame, in plain Python."""
    channels = (1, 4, 4)
    net = networks.Discriminator(channels)
    videos = model.from_pixels(batch().video)
    params = moved(net.init(jax.random.key(0), videos))
    first, tail = ({"params": params["params"][name]} for name in ("first", "tail"))
    pyramids = [networks.UNet(channels).apply(first, videos[:, 0])]
    for frame in (1, 2):
        pyramids.append(networks.ViewNet(channels).apply(tail, videos[:, frame], pyramids[-1]))
    scores = [np.mean(pyramid[0], axis=(1, 2, 3)) for pyramid in pyramids]
    np.testing.assert_allclose(net.apply(params, videos), np.mean(scores, axis=0), rtol=1e-4)


def test_each_frame_is_made_of_the_one_before_and_its_pyramid():
    """The same walk, frame by frame, in plain Python."""
    net = networks.Generator(CHANNELS, first_views=0, num_frames=3)
    noise = image(2, 8, 8, 5)
    params = jax.tree.map(lambda x: x / 3, moved(net.init(jax.random.key(0), noise)))
    first, tail = ({"params": params["params"][name]} for name in ("first", "tail"))
    pyramid = networks.UNet(CHANNELS).apply(first, noise)
    frames = [jnp.tanh(pyramid[0])]
    for _ in range(2):
        view = networks.ViewNet(CHANNELS, networks.CHANGE)
        pyramid = view.apply(tail, frames[-1], pyramid)
        frames.append(jnp.tanh(pyramid[0]))
    np.testing.assert_allclose(net.apply(params, noise), jnp.stack(frames, 1), rtol=1e-4, atol=1e-5)


def test_single_images_need_no_tail():
    settings = tiny(num_frames=1)
    params = model.init(settings, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 2)
    images = model.generate(settings, params["generator"], keys, jnp.zeros(2, int))
    assert images.shape == (2, 1, 8, 8, 3)
    assert model.score(settings, params["discriminator"], images, jnp.zeros(2, int)).shape == (2,)
    assert "tail" not in params["generator"]["network"]["params"]


def test_labels_change_both_models_and_are_learned():
    settings = tiny(labels=True)
    params = model.init(settings, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 2)
    zeros, ones = jnp.zeros(2, int), jnp.ones(2, int)
    made = [model.generate(settings, params["generator"], keys, y) for y in (zeros, ones)]
    assert not np.allclose(made[0], made[1])
    scores = [model.score(settings, params["discriminator"], made[0], y) for y in (zeros, ones)]
    assert not np.allclose(scores[0], scores[1])
    judge = params["discriminator"]
    gradient = jax.grad(lambda p: gan_steps.generator_loss(settings, p, judge, keys, ones)[0])(
        params["generator"]
    )
    images = gradient["labels"]["params"]["images"]
    assert np.abs(images[1]).max() > 0
    assert np.abs(images[0]).max() == 0


def test_power_iterations_find_the_largest_singular_value():
    params = {"a": {"kernel": image(3, 3, 4, 6), "bias": image(6)}}
    vectors = spectral.init(params)
    for _ in range(100):
        vectors = spectral.iterate(params, vectors)
    normalised = spectral.normalise(params, vectors)
    values = np.linalg.svd(np.asarray(normalised["a"]["kernel"]).reshape(-1, 6), compute_uv=False)
    assert values[0] == pytest.approx(spectral.NORM, abs=1e-3)
    np.testing.assert_array_equal(normalised["a"]["bias"], params["a"]["bias"])


def test_the_penalty_is_the_squared_gradient_of_the_score():
    """Against finite differences, along the gradient's own direction."""
    settings = tiny(objective="r1")
    params = moved(model.init(settings, jax.random.key(0))["discriminator"])
    real, labels = model.from_pixels(batch(1).video), jnp.zeros(1, int)
    penalty = float(gan_steps.penalty(settings, params, real, labels))
    gradient = jax.grad(lambda x: model.score(settings, params, x, labels)[0])(real)
    direction = gradient / np.linalg.norm(gradient)
    step = 1e-3
    ahead, behind = (
        float(model.score(settings, params, real + s * direction, labels)[0]) for s in (step, -step)
    )
    assert penalty == pytest.approx(((ahead - behind) / (2 * step)) ** 2, rel=0.02)


def test_the_losses_are_those_of_the_scores():
    settings = tiny()
    params = moved(model.init(settings, jax.random.key(0))["discriminator"])
    videos, labels = model.from_pixels(batch().video), jnp.zeros(4, int)
    fake = -videos
    loss, logs = gan_steps.discriminator_loss(settings, params, {}, videos, fake, labels)
    real, made = (
        np.asarray(model.score(settings, params, x, labels), np.float64) for x in (videos, fake)
    )
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    expected = -np.mean(np.log(sigmoid(real))) - np.mean(np.log(1 - sigmoid(made)))
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(logs["accuracy"]) == (np.mean(real > 0) + np.mean(made < 0)) / 2


def test_r1_judges_with_normalised_kernels_and_adds_its_penalty():
    settings = tiny(objective="r1")
    params = moved(model.init(settings, jax.random.key(0))["discriminator"])
    vectors = spectral.init(params)
    normalised = spectral.normalise(params, vectors)
    videos, labels = model.from_pixels(batch().video), jnp.zeros(4, int)
    loss, logs = gan_steps.discriminator_loss(settings, params, vectors, videos, -videos, labels)
    plain = gan_steps.discriminator_loss(tiny(), normalised, {}, videos, -videos, labels)[0]
    penalty = gan_steps.penalty(settings, normalised, videos, labels)
    assert float(penalty) > 0
    assert float(loss) == pytest.approx(float(plain + settings.r1_weight / 2 * penalty), rel=1e-5)
    of_raw = np.mean(model.score(settings, params, videos, labels))
    assert abs(float(logs["score_real"]) - of_raw) > 1e-3


def test_the_generator_s_loss_is_the_non_saturating_one_and_its_logs_are_of_its_videos():
    settings = tiny()
    params = moved(model.init(settings, jax.random.key(0)))
    keys, labels = jax.random.split(jax.random.key(1), 4), jnp.zeros(4, int)
    judge = params["discriminator"]
    loss, logs = gan_steps.generator_loss(settings, params["generator"], judge, keys, labels)
    fake = model.generate(settings, params["generator"], keys, labels)
    scores = np.asarray(model.score(settings, judge, fake, labels), np.float64)
    assert float(loss) == pytest.approx(np.mean(np.log1p(np.exp(-scores))), rel=1e-4)
    fake = np.asarray(fake, np.float64)
    saturated = np.mean(np.abs(fake) > gan_steps.SATURATED)
    assert 0 < saturated < 1
    expected = {
        "frame_mean": fake.mean(),
        "frame_std": fake.std(axis=(2, 3, 4)).mean(),
        "between_std": fake.std(axis=0).mean(),
        "saturated": saturated,
    }
    for name, value in expected.items():
        assert float(logs[name]) == pytest.approx(value, rel=1e-3), name


def shards():
    return shard(batch(4 * jax.local_device_count()))


@pytest.fixture(scope="module")
def stepped():
    """States and metrics over a few steps of each objective."""
    results = {}
    for objective in ("paper", "r1"):
        settings = tiny(objective=objective, ema_decay=0.5)
        step = on_devices(functools.partial(gan_steps.train_step, settings))
        state = replicate(gan_steps.create(settings))
        states, metrics = [unreplicate(state)], []
        for _ in range(24):
            state, logs = step(state, shards())
            states.append(unreplicate(state))
            metrics.append(unreplicate(logs))
        results[objective] = (settings, step, states, metrics)
    return results


@pytest.mark.parametrize("objective", ["paper", "r1"])
def test_the_discriminator_learns_to_tell_real_from_generated(stepped, objective):
    """With the generator held where it started, since it would catch up."""
    _, step, states, _ = stepped[objective]
    state, held = replicate(states[0]), replicate(states[0].generator)
    for _ in range(30):
        state, logs = step(state._replace(generator=held), shards())
    assert unreplicate(logs)["discriminator"]["accuracy"] > 0.9


@pytest.mark.parametrize("objective", ["paper", "r1"])
def test_the_generator_follows_the_data(stepped, objective):
    """To bright frames, from grey ones."""
    _, _, _, metrics = stepped[objective]
    means = [float(m["generator"]["frame_mean"]) for m in metrics]
    assert abs(means[0]) < 0.3
    assert means[-1] > 0.3


@pytest.mark.parametrize("objective", ["paper", "r1"])
def test_a_step_changes_both_models_and_averages_the_generator(stepped, objective):
    _, _, states, metrics = stepped[objective]
    for name in gan_steps.NAMES:
        before, after = (getattr(s, name).params for s in states[:2])
        for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
            assert relative_distance(new, old) > 0
    decay = 0.1  # (1 + 0) / (10 + 0), below the flag's
    old, new, average = (
        jax.tree.leaves(x)[0]
        for x in (
            states[0].generator.params,
            states[1].generator.params,
            states[1].generator.average,
        )
    )
    np.testing.assert_allclose(average, decay * old + (1 - decay) * new, rtol=1e-5, atol=1e-7)
    assert ("penalty" in metrics[0]["discriminator"]) == (objective == "r1")


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(stepped):
    _, step, states, _ = stepped["paper"]
    broken = states[0]._replace(
        discriminator=states[0].discriminator._replace(
            params=jax.tree.map(lambda x: np.full_like(x, np.nan), states[0].discriminator.params)
        )
    )
    after, _ = step(replicate(broken), shards())
    after = unreplicate(after)
    assert (int(after.step), int(after.skipped)) == (1, 1)
    assert_same(after.generator, broken.generator)
    assert_same(after.discriminator, broken.discriminator)


def flags_of(data_dir, **changes):
    fields = TINY | {"data_dir": data_dir} | changes
    return [f"--{name}={value}" for name, value in fields.items()]


def final(workdir):
    gan = trained.load(workdir)
    return gan.params, gan.step


def test_a_run_goes_on_to_the_same_bits_and_is_sampled(call, data_dir, tmp_path):
    assert NUM_CLIPS["train"] >= TINY["batch_size"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = flags_of(data_dir, labels=True)
    code, out, _ = call("gan.train", *flags, f"--workdir={whole}")
    assert code == 0
    assert "is trained to step 4" in out
    call("gan.train", *flags, "--num_steps=2", f"--workdir={parts}")
    code, out, _ = call("gan.train", "--num_steps=4", f"--workdir={parts}")
    assert "Going on from step 2" in out
    (a, at), (b, bt) = final(whole), final(parts)
    assert at == bt == 4
    assert_same(a, b)
    curves = events(whole)
    assert set(curves["generator/frame_std"]) == {1, 2, 3, 4}
    assert set(curves["discriminator/accuracy"]) == {1, 2, 3, 4}
    assert (whole / "previews" / "step000002.png").exists()

    code, out, _ = call("gan.sample", f"--workdir={whole}", "--num_videos=2", "--label=bounce")
    assert code == 0
    assert "2 videos" in out
    assert iio.imread(whole / "samples" / "001.gif").shape[0] == 3
    assert iio.imread(whole / "samples" / "samples.png").ndim == 3
    result = call("gan.sample", f"--workdir={whole}", "--label=bouncy")
    assert_one_line(result, "bounce")


def test_a_run_of_another_configuration_is_refused(call, data_dir, tmp_path):
    call("gan.train", *flags_of(data_dir, num_steps=0), f"--workdir={tmp_path}")
    result = call("gan.train", "--width=5", f"--workdir={tmp_path}")
    assert_one_line(result, "--width=5 (the run has 4)")
    assert_one_line(call("gan.sample", f"--workdir={tmp_path}", "--label=bounce"), "--label")
    (tmp_path / "config.json").write_text(json.dumps({"label_names": []}))
    assert_one_line(call("gan.sample", f"--workdir={tmp_path}"), "flowvid.gan.train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "wgan"}, "paper, r1"),
        ({"preset": "large"}, "paper, small"),
        ({"image_size": 10}, "2^levels = 4"),
        ({"label_size": 3}, "--label_size=3"),
        ({"beta1": 1.0}, "--beta1=1.0 must be below 1"),
        ({"ema_decay": 1.0}, "--ema_decay=1.0 must be below 1"),
        ({"seed": 2**32}, "2^32"),
        ({"first_views": -1}, "at least 0"),
    ],
)
def test_what_cannot_be_trained_is_refused(changes, message):
    with pytest.raises(ConfigError) as error:
        tiny(**changes)
    assert message in str(error.value)
