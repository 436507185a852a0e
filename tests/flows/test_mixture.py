"""The mixture flow: an exact density over bins, invertible, trained, and conditioned."""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flow_contract import check_exact_density_and_round_trips
from helpers import assert_near

from flowvid.config.making import preset_config
from flowvid.errors import ConfigError
from flowvid.flows.bijectors import logistic_mixture
from flowvid.flows.mixture import stage
from flowvid.flows.mixture.drawing import uniform_numbers
from flowvid.flows.mixture.settings import MixtureSettings
from flowvid.flows.protocol import BuildOptions, Guidance

BATCH, COMPONENTS, WIDTH = 2, 3, 6

# What a level's context is: nothing, a map, or the same numbers at every pixel.
NOTHING, MAPS, CONSTANT = "nothing", "maps", "constant"


class Case(NamedTuple):
    """A flow of a few parameters, and the images and contexts that it is tested with."""

    model: str
    levels: int
    size: tuple[int, int]
    num_bins: int
    context: str = NOTHING
    channels: int = 0
    anchors: int = 0

    def flow(self, components=COMPONENTS, width=WIDTH, **options):
        """The flow."""
        settings = MixtureSettings(
            components=components,
            stage_width=width,
            head_stage_width=width + 1,
            head_levels=self.levels,
            head_width=WIDTH,
            head_depth=2,
        )
        build = {"num_bins": self.num_bins, "anchors": self.anchors} | options
        return settings.build(BuildOptions(model=self.model, levels=self.levels, **build))


CASES = {
    "1": Case("tail", 1, (2, 4), 32),
    "1_anchors_8_bits": Case("tail", 1, (4, 2), 256, MAPS, 8, 2),
    "2_context": Case("tail", 2, (4, 4), 8, MAPS, 2),
    "1_label": Case("tail", 1, (4, 4), 8, CONSTANT, 2),
    "head": Case("head", 1, (8, 8), 8),
    "head_of_2_levels": Case("head", 2, (16, 16), 8),
    "head_of_label": Case("head", 1, (8, 16), 32, CONSTANT, 3),
    "head_of_label_image": Case("head", 1, (8, 8), 256, MAPS, 2),
}


@functools.cache
def initial(name):
    """Drawn parameters, which are of single precision in every test and take long to compile."""
    flow, x, contexts = flow_and_inputs(name, np.float32)
    with jax.enable_x64(False):
        return jax.tree.map(np.asarray, jax.jit(flow.init)(jax.random.key(0), x, contexts))


def case(name, dtype=jnp.float64):
    """The flow, an image in the middles of bins, contexts, and drawn parameters."""
    flow, x, contexts = flow_and_inputs(name, dtype)
    params = jax.tree.map(lambda p: jnp.asarray(np.asarray(p, dtype)), initial(name))
    return flow, params, x, contexts


def flow_and_inputs(name, dtype):
    """The flow, an image in the middles of bins, and contexts."""
    chosen = CASES[name]
    flow, (height, width) = chosen.flow(), chosen.size
    rng = np.random.default_rng(0)
    bins = rng.integers(0, chosen.num_bins, (BATCH, height, width, 3))
    x = jnp.asarray((bins + rng.uniform(0.2, 0.8, bins.shape)) / chosen.num_bins - 0.5, dtype)
    contexts = (None,) * chosen.levels
    if chosen.context != NOTHING:
        sizes = [(height >> i, width >> i) for i in range(chosen.levels)]
        if chosen.context == CONSTANT:
            sizes = [(1, 1)] * chosen.levels
        shapes = [(BATCH, *size, chosen.channels) for size in sizes]
        contexts = tuple(jnp.asarray(rng.uniform(-0.5, 0.5, shape), dtype) for shape in shapes)
    return flow, x, contexts


@pytest.mark.parametrize("name", CASES)
def test_exact_density_and_round_trips(name, perturbed, float64):
    flow, params, x, contexts = case(name)
    check_exact_density_and_round_trips(flow, params, x, contexts, perturbed, steps=10)


@pytest.mark.parametrize("name", ["1_anchors_8_bits", "2_context", "1_label", "1"])
def test_prepared_parameters_sample_alike(name, perturbed):
    flow, params, x, contexts = case(name, jnp.float32)
    plain, keys = perturbed(params, 0.3), jax.random.split(jax.random.key(0), BATCH)
    draw = jax.jit(lambda params: flow.sample(params, keys, x.shape[1:], contexts, jnp.ones(())))
    np.testing.assert_array_equal(draw(plain), draw(flow.prepare(plain)))


def test_masses_of_all_images_sum_to_one_and_samples_follow_them(perturbed, float64):
    flow = Case("tail", 1, (2, 2), 2).flow(2, 4)
    images = np.array(list(itertools.product([-0.25, 0.25], repeat=12))).reshape(-1, 2, 2, 3)
    params = jax.jit(flow.init)(jax.random.key(0), jnp.asarray(images[:1]), (None,))
    params = perturbed(jax.tree.map(lambda p: np.asarray(p, np.float64), params), 0.5)
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
    num_bins = CASES[name].num_bins
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


@pytest.mark.parametrize("name", ["1", "1_anchors_8_bits", "head_of_label"])
def test_gradients_are_finite_and_the_same_when_rebuilt(name, perturbed, float64):
    flow, params, x, contexts = case(name)
    params = perturbed(params, 0.3)
    rebuilding = CASES[name].flow(reversible=True)

    def gradient(flow):
        loss = lambda params, contexts: -jnp.mean(flow.log_prob(params, x, contexts).log_prob)  # noqa: E731
        of_contexts = None if contexts[0] is None else contexts
        return jax.grad(loss, (0,) if of_contexts is None else (0, 1))

    stored, rebuilt = (jax.jit(gradient(f))(params, contexts) for f in (flow, rebuilding))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(stored))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(stored[1:]))  # every context counts
    assert_near(rebuilt, stored, 1e-12)


@pytest.mark.parametrize("name", ["2_context", "1_label", "head_of_label", "head_of_label_image"])
def test_what_contexts_change_differs_as_the_log_probs_do(name, perturbed, float64):
    flow, params, x, contexts = case(name)
    params, other = perturbed(params, 0.3), tuple(context + 0.5 for context in contexts)
    density_of = jax.jit(lambda seen: flow.log_prob(params, x, seen))
    part_of = jax.jit(lambda seen: flow.changeable_log_prob(params, x, seen))
    density, part = density_of(contexts), part_of(contexts)
    difference = density.log_prob - density_of(other).log_prob
    assert np.all(np.abs(difference) > 1e-3)
    np.testing.assert_allclose(part - part_of(other), difference, rtol=1e-9)
    is_shorter = np.all(np.abs(part - density.log_prob) > 1)
    assert is_shorter == (CASES[name].context == CONSTANT)
    assert (density.changeable is not None) == is_shorter
    if is_shorter:
        np.testing.assert_allclose(density.changeable, part, rtol=1e-9)


@pytest.mark.parametrize("name", ["1_anchors_8_bits", "head_of_label"])
def test_bfloat16_networks_keep_the_density_near(name):
    flow, params, x, contexts = case(name, jnp.float32)
    half = CASES[name].flow(dtype="bfloat16")
    ours, theirs = (jax.jit(f.log_prob)(params, x, contexts).log_prob for f in (half, flow))
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-2)


def test_an_untrained_tail_begins_at_its_anchors():
    """A frame equal to an anchor costs few bits, before any training."""
    flow = Case("tail", 1, (4, 4), 32, MAPS, 3, 1).flow(2, 4)
    frame = jnp.asarray(np.random.default_rng(0).integers(0, 32, (2, 4, 4, 3)) / 32 - 0.5)
    params = jax.jit(flow.init)(jax.random.key(0), frame, (frame,))
    log_prob = jax.jit(flow.log_prob)
    near, far = (
        -log_prob(params, x + 1 / 64, (frame,)).log_prob / (48 * math.log(2)) + 5
        for x in (frame, -frame - 1 / 32)
    )
    assert np.all(near < 2.5)
    assert np.all(far > 5)


def test_the_papers_metric_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"--flow=mixture models the bins .* --dequantization"):
        preset_config("paper_small", flow="mixture", dequantization="paper")
    assert preset_config("paper_small", flow="mixture").metric_names == ("5-bit", "8-bit")
    assert preset_config("paper_small", flow="mixture", n_bits=8).metric_names == ("8-bit",)
    assert preset_config("paper_small").metric_names == ("5-bit", "8-bit", "paper")


def test_sizes_that_cannot_be_halved_are_refused():
    flow = Case("tail", 3, (8, 8), 32).flow(2, 4)
    with pytest.raises(ValueError, match="Height 12 must be divisible by 8"):
        flow.latent_shapes((12, 16, 3))
    with pytest.raises(ConfigError, match="must be divisible by 2"):
        preset_config("paper_small", flow="mixture", image_size=36)


def test_a_head_of_unsuitable_size_is_refused():
    fields = {"flow": "mixture", "context": "unet"}
    with pytest.raises(ConfigError, match=r"--head_levels=4 must be at most --levels=3"):
        preset_config("paper_small", **fields, head_levels=4)
    with pytest.raises(ConfigError, match=r"=48 must be .* by 32 .*=3: use --head_levels=2, or"):
        preset_config("paper_small", **fields, head_levels=3, image_size=48)
    with pytest.raises(ConfigError, match=r"=8x12 .* by 8 for --head_levels=1: use another size"):
        preset_config("paper_small", **fields, levels=1, head_levels=1, image_size="8x12")
    with pytest.raises(ConfigError, match=r"--head_width=40 must be a multiple of 32"):
        preset_config("paper_small", **fields, head_width=40)


def test_guided_samples_and_temperatures_of_levels(perturbed):
    """Guidance of 1 is the model; a level's temperature leaves coarser levels alone."""
    flow, params, x, contexts = case("head_of_label", jnp.float32)
    params, keys = perturbed(params, 0.3), jax.random.split(jax.random.key(0), BATCH)
    other = (contexts[0] + 1,)

    @jax.jit
    def draw(temperature, scale):
        guidance = None if scale is None else Guidance(scale, other)
        shape = (*x.shape[1:],)
        return flow.sample(params, keys, shape, contexts, jnp.asarray(temperature), guidance)

    # Guided masses are inverted bin by bin, in the last image, which alone sees the label.
    uniform = uniform_numbers(keys, flow.latent_shapes(x.shape[1:]))
    latents = jax.tree.map(jax.scipy.special.ndtri, uniform)
    decoded = np.floor((np.asarray(jax.jit(flow.decode)(params, latents, contexts)) + 0.5) * 32)
    unchanged = np.floor((np.asarray(draw([1.0], jnp.float32(1))) + 0.5) * 32)
    same = (decoded == unchanged)[:, ::2, ::2]
    assert np.mean(same) > 0.98  # but for bins that are all but excluded
    guided = np.floor((np.asarray(draw([1.0], jnp.float32(5))) + 0.5) * 32)
    assert np.mean((decoded == guided)[:, ::2, ::2]) < 0.9
    plain = np.floor((np.asarray(draw([1.0], None)) + 0.5) * 32)
    fine = np.floor((np.asarray(draw([0.1, 1.0], None)) + 0.5) * 32)
    np.testing.assert_array_equal(fine[:, ::2, ::2], plain[:, ::2, ::2])
    assert np.any(fine != plain)


@pytest.mark.parametrize("slope", [-10.0, 0.0, 10.0])
@pytest.mark.parametrize("num_bins", [32, 256])
def test_no_pixel_costs_more_than_55_bits(num_bins, slope):
    outputs = np.zeros((2, stage.num_outputs(COMPONENTS)), np.float32)
    outputs[:, COMPONENTS : 4 * COMPONENTS] = -1e3  # means far below all bins
    outputs[:, 4 * COMPONENTS : 7 * COMPONENTS] = -1e3  # and all scales at their smallest
    outputs[:, 7 * COMPONENTS :] = slope
    mixture = stage.as_mixture(jnp.asarray(outputs), [], COMPONENTS, num_bins)
    for chosen in itertools.product([1, num_bins // 2, num_bins - 1], repeat=3):
        x = jnp.asarray(2 * [chosen]) / num_bins - 0.5 + 0.5 / num_bins
        bits = -logistic_mixture.log_mass(mixture, x, num_bins) / np.log(2)
        assert np.all(bits < 55), chosen
    gradients = jax.grad(
        lambda outputs: jnp.sum(
            logistic_mixture.log_mass(
                stage.as_mixture(outputs, [], COMPONENTS, num_bins), x, num_bins
            )
        )
    )(jnp.asarray(outputs))
    assert np.all(np.isfinite(gradients))
    # Where the network is right, the rare component takes nothing.
    mixture = mixture._replace(slopes=jnp.zeros_like(mixture.slopes))
    x = jnp.full((2, 3), -0.5 + 0.5 / num_bins)
    np.testing.assert_allclose(logistic_mixture.log_mass(mixture, x, num_bins), 0, atol=1e-4)
