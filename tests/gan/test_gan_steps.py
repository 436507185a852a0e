"""The GAN's losses, its spectral normalisation, and what a step of training changes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gan_cases import batch, generate, image, initial, moved, score, tiny
from helpers import assert_same, relative_distance

from flowvid.gan import model, spectral
from flowvid.gan import steps as gan_steps
from flowvid.parallel.devices import on_devices, replicate, shard, unreplicate

# Compiled as a whole, as `gan_cases.score` is.
penalty_of = jax.jit(gan_steps.penalty, static_argnums=0)
discriminator_loss = jax.jit(gan_steps.discriminator_loss, static_argnums=0)
generator_loss = jax.jit(gan_steps.generator_loss, static_argnums=0)
first_vectors, normalised_by = jax.jit(spectral.init), jax.jit(spectral.normalise)


def test_power_iterations_find_the_largest_singular_value():
    params = {"a": {"kernel": image(3, 3, 4, 6), "bias": image(6)}}
    vectors, iterate = first_vectors(params), jax.jit(spectral.iterate)
    for _ in range(100):
        vectors = iterate(params, vectors)
    normalised = normalised_by(params, vectors)
    values = np.linalg.svd(np.asarray(normalised["a"]["kernel"]).reshape(-1, 6), compute_uv=False)
    assert values[0] == pytest.approx(spectral.NORM, abs=1e-3)
    np.testing.assert_array_equal(normalised["a"]["bias"], params["a"]["bias"])


def test_the_penalty_is_the_squared_gradient_of_the_score():
    """The reference is a finite difference along the direction of the gradient."""
    settings = tiny(objective="r1")
    params = moved(initial(settings)["discriminator"])
    real, labels = model.from_pixels(batch(1).video), jnp.zeros(1, int)
    penalty = float(penalty_of(settings, params, real, labels))
    gradient = jax.jit(jax.grad(lambda x: score(settings, params, x, labels)[0]))(real)
    direction = gradient / np.linalg.norm(gradient)
    step = 1e-3
    ahead, behind = (
        float(score(settings, params, real + s * direction, labels)[0]) for s in (step, -step)
    )
    assert penalty == pytest.approx(((ahead - behind) / (2 * step)) ** 2, rel=0.02)


def test_the_discriminators_loss_is_the_cross_entropy_of_its_scores():
    settings = tiny()
    params = moved(initial(settings)["discriminator"])
    videos, labels = model.from_pixels(batch().video), jnp.zeros(4, int)
    fake = -videos
    loss, logs = discriminator_loss(settings, params, {}, videos, fake, labels)
    real, made = (
        np.asarray(score(settings, params, x, labels), np.float64) for x in (videos, fake)
    )
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    expected = -np.mean(np.log(sigmoid(real))) - np.mean(np.log(1 - sigmoid(made)))
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(logs["accuracy"]) == (np.mean(real > 0) + np.mean(made < 0)) / 2


def test_r1_normalises_kernels_and_adds_its_penalty():
    settings = tiny(objective="r1")
    params = moved(initial(settings)["discriminator"])
    vectors = first_vectors(params)
    normalised = normalised_by(params, vectors)
    videos, labels = model.from_pixels(batch().video), jnp.zeros(4, int)
    loss, logs = discriminator_loss(settings, params, vectors, videos, -videos, labels)
    plain = discriminator_loss(tiny(), normalised, {}, videos, -videos, labels)[0]
    penalty = penalty_of(settings, normalised, videos, labels)
    assert float(penalty) > 0
    assert float(loss) == pytest.approx(float(plain + settings.r1_weight / 2 * penalty), rel=1e-5)
    of_raw = np.mean(score(settings, params, videos, labels))
    assert abs(float(logs["score_real"]) - of_raw) > 1e-3


def test_the_generators_loss_is_non_saturating_and_its_logs_describe_its_videos():
    settings = tiny()
    params = moved(initial(settings))
    keys, labels = jax.random.split(jax.random.key(1), 4), jnp.zeros(4, int)
    judge = params["discriminator"]
    loss, logs = generator_loss(settings, params["generator"], judge, keys, labels)
    fake = generate(settings, params["generator"], keys, labels)
    scores = np.asarray(score(settings, judge, fake, labels), np.float64)
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
    """Returns states and metrics over a few steps of each objective."""
    results = {}
    for objective in ("paper", "r1"):
        settings = tiny(objective=objective, ema_decay=0.5)
        step = on_devices(functools.partial(gan_steps.train_step, settings))
        state = replicate(jax.jit(gan_steps.create, static_argnums=0)(settings))
        states, metrics = [unreplicate(state)], []
        for _ in range(24):
            state, logs = step(state, shards())
            states.append(unreplicate(state))
            metrics.append(unreplicate(logs))
        results[objective] = (settings, step, states, metrics)
    return results


@pytest.mark.parametrize("objective", ["paper", "r1"])
def test_the_discriminator_learns_to_distinguish_real_from_generated(stepped, objective):
    """The generator is kept at its initial parameters, since it would catch up."""
    _, step, states, _ = stepped[objective]
    state, held = replicate(states[0]), replicate(states[0].generator)
    for _ in range(30):
        state, logs = step(state._replace(generator=held), shards())
    assert unreplicate(logs)["discriminator"]["accuracy"] > 0.9


@pytest.mark.parametrize("objective", ["paper", "r1"])
def test_the_generator_follows_the_data(stepped, objective):
    """Its frames are grey at first and become bright, as the data are."""
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
    decay = 0.1  # (1 + 0) / (10 + 0), which is below --ema_decay
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


def test_non_finite_steps_are_skipped_and_counted(stepped):
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
