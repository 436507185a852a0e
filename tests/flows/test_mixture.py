"""The mixture flow: an exact density over bins, invertible, trained, and conditioned."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flow_contract import check_exact_density_and_round_trips
from helpers import assert_near

from flowvid.config.schema import preset_config
from flowvid.errors import ConfigError
from flowvid.flows.mixture import phases
from flowvid.flows.mixture.flow import mixture

BATCH, COMPONENTS, WIDTH = 2, 3, 6

# (levels, image [H, W], bins, context channels, anchors)
CASES = {
    "1": (1, (2, 4), 32, None, 0),
    "1_anchors_8_bits": (1, (4, 2), 256, 8, 2),
    "2_context": (2, (4, 4), 8, 2, 0),
}


def case(name, dtype=jnp.float64):
    """The flow, an image in the middles of bins, contexts, and drawn parameters."""
    levels, (height, width), num_bins, channels, anchors = CASES[name]
    flow = mixture(levels, COMPONENTS, WIDTH, num_bins, anchors)
    rng = np.random.default_rng(0)
    bins = rng.integers(0, num_bins, (BATCH, height, width, 3))
    x = jnp.asarray((bins + rng.uniform(0.2, 0.8, bins.shape)) / num_bins - 0.5, dtype)
    contexts = (None,) * levels
    if channels is not None:
        shapes = [(BATCH, height >> i, width >> i, channels) for i in range(levels)]
        contexts = tuple(jnp.asarray(rng.uniform(-0.5, 0.5, shape), dtype) for shape in shapes)
    params = jax.jit(flow.init)(jax.random.key(0), x, contexts)
    return flow, jax.tree.map(lambda p: p.astype(dtype), params), x, contexts


@pytest.mark.parametrize("name", CASES)
def test_exact_density_and_round_trips(name, perturbed, float64):
    flow, initial, x, contexts = case(name)
    check_exact_density_and_round_trips(flow, initial, x, contexts, perturbed, steps=10)


def test_masses_of_all_images_sum_to_one_and_samples_follow_them(perturbed, float64):
    flow = mixture(levels=1, components=2, width=4, num_bins=2)
    images = np.array(list(itertools.product([-0.25, 0.25], repeat=12))).reshape(-1, 2, 2, 3)
    params = flow.init(jax.random.key(0), jnp.asarray(images[:1]), (None,))
    params = perturbed(jax.tree.map(lambda p: p.astype(jnp.float64), params), 0.5)
    density = jax.jit(lambda x: flow.log_prob(params, x, (None,)).log_prob)
    log_masses = np.asarray(density(jnp.asarray(images))) - 12 * math.log(2)
    masses = np.exp(log_masses)
    np.testing.assert_allclose(masses.sum(), 1, rtol=1e-12)

    keys = jax.random.split(jax.random.key(1), 4000)
    draw = jax.jit(lambda t: flow.sample(params, keys, (2, 2, 3), (None,), t))
    bits = (np.asarray(draw(jnp.ones(()))) > 0).reshape(-1, 12)
    drawn = log_masses[bits @ 2 ** np.arange(11, -1, -1)]  # rows of `images` count in binary
    mean, error = drawn.mean(), drawn.std() / math.sqrt(len(drawn))
    assert abs(mean - (masses * log_masses).sum()) < 4 * error
    frequencies, expected = bits.mean(0), (images.reshape(-1, 12) > 0).T @ masses
    assert np.all(np.abs(frequencies - expected) < 4.5 * np.sqrt(0.25 / len(drawn)))
    cold = (np.asarray(draw(jnp.asarray(0.2))) > 0).reshape(-1, 12)
    assert log_masses[cold @ 2 ** np.arange(11, -1, -1)].mean() > mean + 10 * error


def test_float32_agrees_and_noise_within_bins_has_no_influence(perturbed):
    name = "1_anchors_8_bits"
    flow, params, x, contexts = case(name, jnp.float32)
    params = perturbed(params, 0.05)
    log_prob = jax.jit(lambda params, x, contexts: flow.log_prob(params, x, contexts).log_prob)
    found = log_prob(params, x, contexts)
    with jax.enable_x64(True):
        doubled = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, x, contexts))
        np.testing.assert_allclose(found, log_prob(*doubled), rtol=2e-5)
    num_bins = CASES[name][2]
    both_ways = jax.jit(lambda x: flow.decode(params, flow.encode(params, x, contexts), contexts))
    for part in (0.0, 0.5, 0.99):
        moved = (jnp.floor((x + 0.5) * num_bins) + part) / num_bins - 0.5
        # The two terms of the density are rounded apart from each other.
        np.testing.assert_allclose(log_prob(params, moved, contexts), found, rtol=1e-5)
        back = both_ways(moved)
        if part:  # an edge may be rounded to either side
            np.testing.assert_array_equal(
                jnp.floor((back + 0.5) * num_bins), jnp.floor((x + 0.5) * num_bins)
            )


@pytest.mark.parametrize("name", ["1", "1_anchors_8_bits"])
def test_gradients_are_finite_and_the_same_when_rebuilt(name, perturbed, float64):
    levels, _, num_bins, _, anchors = CASES[name]
    flow, params, x, contexts = case(name)
    params = perturbed(params, 0.3)
    rebuilding = mixture(levels, COMPONENTS, WIDTH, num_bins, anchors, reversible=True)

    def gradient(flow):
        loss = lambda params, contexts: -jnp.mean(flow.log_prob(params, x, contexts).log_prob)  # noqa: E731
        of_contexts = None if contexts[0] is None else contexts
        return jax.jit(jax.grad(loss, (0,) if of_contexts is None else (0, 1)))(params, contexts)

    stored = gradient(flow)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(stored))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(stored[1:]))  # every context counts
    assert_near(gradient(rebuilding), stored, 1e-7)


def test_bfloat16_networks_keep_the_density_near():
    levels, _, num_bins, _, anchors = CASES["1_anchors_8_bits"]
    flow, params, x, contexts = case("1_anchors_8_bits", jnp.float32)
    half = mixture(levels, COMPONENTS, WIDTH, num_bins, anchors, dtype="bfloat16")
    ours, theirs = (jax.jit(f.log_prob)(params, x, contexts).log_prob for f in (half, flow))
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-2)


def test_an_untrained_tail_begins_at_its_anchors():
    """A frame equal to an anchor costs few bits, before any training."""
    flow = mixture(levels=1, components=2, width=4, num_bins=32, anchors=1)
    frame = jnp.asarray(np.random.default_rng(0).integers(0, 32, (2, 4, 4, 3)) / 32 - 0.5)
    params = jax.jit(flow.init)(jax.random.key(0), frame, (frame,))
    log_prob = jax.jit(flow.log_prob)
    near, far = (
        -log_prob(params, x + 1 / 64, (frame,)).log_prob / (48 * math.log(2)) + 5
        for x in (frame, -frame - 1 / 32)
    )
    assert np.all(near < 2.5)
    assert np.all(far > 5)


@pytest.mark.parametrize("phase", phases.ORDER)
def test_interpolation_uses_the_four_nearest_known_pixels(phase):
    """Away from edges, a plane is interpolated exactly, by pixels that are known by then."""
    rows, columns = np.mgrid[:8, :8]
    plane = jnp.asarray(2.0 * rows + 3.0 * columns, jnp.float32)[None, :, :, None]
    split = phases.split(plane)
    before = phases.ORDER[: phases.ORDER.index(phase)]
    known = {p: split[p] for p in (0, *before)}
    found = phases.interpolated(known, phase)
    np.testing.assert_allclose(found[:, 1:-1, 1:-1], split[phase][:, 1:-1, 1:-1], rtol=1e-6)


def test_phases_are_merged_as_they_were_split():
    x = jnp.arange(2.0 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    split = phases.split(x)
    np.testing.assert_array_equal(split[1], x[:, ::2, 1::2])
    np.testing.assert_array_equal(split[2], x[:, 1::2, ::2])
    np.testing.assert_array_equal(phases.merge(dict(enumerate(split))), x)


def test_the_papers_metric_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"--flow=mixture models the bins .* --dequantization"):
        preset_config("paper_small", flow="mixture", dequantization="paper")
    assert preset_config("paper_small", flow="mixture").metric_names == ("5-bit", "8-bit")
    assert preset_config("paper_small", flow="mixture", n_bits=8).metric_names == ("8-bit",)
    assert preset_config("paper_small").metric_names == ("5-bit", "8-bit", "paper")


def test_sizes_that_cannot_be_halved_are_refused():
    flow = mixture(levels=3, components=2, width=4, num_bins=32)
    with pytest.raises(ValueError, match="Height 12 must be divisible by 8"):
        flow.latent_shapes((12, 16, 3))
    with pytest.raises(ConfigError, match="must be divisible by 2"):
        preset_config("paper_small", flow="mixture", image_size=36)
