"""Every bijector against its definition: invertible, with the log-determinant of its Jacobian.

A bijector or a configuration of one is tested by adding a line to `CASES`. Each is tested as it
starts, and after steps of Adam from noisy parameters: a constant that training moved, or a formula
that holds only at zero weights, shows there and not before.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_near, assert_same

from flowvid.config.schema import preset_config
from flowvid.flows import bijectors
from flowvid.flows.bijectors import Bijector, actnorm, coupling, invertible_conv, repeat, squeeze
from flowvid.flows.bijectors.base import pull_back
from flowvid.flows.coupling_network import CouplingNetwork
from flowvid.flows.density import gaussian_log_density
from flowvid.flows.glow.flow import flow_step
from flowvid.training import train_state

pytestmark = pytest.mark.usefixtures("float64")

BATCH, HEIGHT, WIDTH = 2, 2, 4


class Case(NamedTuple):
    """A bijector, the channels of its input, and the shape of its context [H, W, K]."""

    bijector: Bijector
    channels: int
    context: tuple[int, int, int] | None = None


def network(features: int) -> CouplingNetwork:
    return CouplingNetwork(width=8, features=features)


CONTEXT = (HEIGHT, WIDTH, 2)
CASES = {
    "actnorm": Case(actnorm(), 3),
    "actnorm_identity": Case(actnorm(data_dependent=False), 3),
    "invertible_conv": Case(invertible_conv(), 3),
    "squeeze": Case(squeeze(), 3),
    "chain": Case(bijectors.chain(squeeze(), actnorm(), coupling(network, "affine")), 3),
}
for _kind in ("additive", "affine"):
    for _suffix, _context in (("", None), ("_context", CONTEXT)):
        CASES[f"coupling_{_kind}{_suffix}"] = Case(coupling(network, _kind), 5, _context)
        for _backprop in ("", "_reversible"):
            steps = repeat(flow_step(8, _kind, data_dependent=True), 3, reversible=bool(_backprop))
            CASES[f"repeat_3_{_kind}{_suffix}{_backprop}"] = Case(steps, 4, _context)
CASES["repeat_1_additive"] = Case(repeat(flow_step(8, "additive", True), 1), 4)
CASES["repeat_1_affine_context"] = Case(repeat(flow_step(8, "affine", True), 1), 4, CONTEXT)
STAGES = ("initial", "trained")

REVERSIBLE = [name for name in CASES if name.endswith("_reversible")]
# Forward and inverse know nothing of `reversible`: two of its cases go through all checks.
every_case = pytest.mark.parametrize(
    "name", [name for name in CASES if name not in REVERSIBLE[1:3]]
)
every_stage = pytest.mark.parametrize("stage", STAGES)


@functools.cache
def inputs(name):
    case, rng = CASES[name], np.random.default_rng(0)
    x = 0.5 + 2 * rng.normal(size=(BATCH, HEIGHT, WIDTH, case.channels))
    context = None if case.context is None else jnp.asarray(rng.normal(size=(BATCH, *case.context)))
    return jnp.asarray(x), context


class Compiled(NamedTuple):
    """A case's functions, compiled once for all stages and tests."""

    forward: Callable  # (y, log-det, Jacobian [B, D, B, D] of the whole batch)
    inverse: Callable
    log_prob: Callable  # (of all x under N(0, 1), its gradients for params, x, context)


@functools.cache
def compiled(name):
    bijector = CASES[name].bijector

    def forward(params, x, context):
        def with_aux(x):
            y, log_det = bijector.forward(params, x, context)
            return y, (y, log_det)

        jacobian, (y, log_det) = jax.jacrev(with_aux, has_aux=True)(x)
        return y, log_det, jacobian.reshape(2 * (BATCH, x.size // BATCH))

    def log_prob(params, x, context):
        y, log_det = bijector.forward(params, x, context)
        return jnp.sum(gaussian_log_density(y) + log_det)

    log_prob_and_gradients = jax.value_and_grad(log_prob, argnums=(0, 1, 2))
    return Compiled(jax.jit(forward), jax.jit(bijector.inverse), jax.jit(log_prob_and_gradients))


@functools.cache
def initial(name):
    params = jax.jit(CASES[name].bijector.init)(jax.random.key(0), *inputs(name))
    return jax.tree.map(lambda p: p.astype(jnp.float64), params)


@functools.cache
def trained(name, noisy):
    """Parameters after steps of Adam that raise the log-density of the inputs."""
    optimiser = train_state.optimizer(preset_config("small", warmup_steps=0), 50.0)
    params = noisy(name)
    opt_state = optimiser.init(params)

    @jax.jit
    def update(gradients, opt_state, params):
        descent = jax.tree.map(lambda g: -g / inputs(name)[0].size, gradients)
        updates, opt_state = optimiser.update(descent, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    for _ in range(20):
        gradients = compiled(name).log_prob(params, *inputs(name))[1][0]
        params, opt_state = update(gradients, opt_state, params)
    return params


@pytest.fixture(scope="module")
def params_of(perturbed):
    """Parameters of a case as it starts, as noise leaves them, and after training from there."""

    def noisy(name):
        return perturbed(initial(name))

    def params_of(name, stage):
        if stage == "trained":
            return trained(name, noisy)
        return initial(name) if stage == "initial" else noisy(name)

    return params_of


@every_stage
@every_case
def test_invertible_with_the_log_det_of_the_jacobian(name, stage, params_of):
    params, (x, context) = params_of(name, stage), inputs(name)
    forward, inverse, _ = compiled(name)
    y, log_det, jacobian = forward(params, x, context)
    x_again, inverse_log_det = inverse(params, y, context)
    np.testing.assert_allclose(x_again, x, rtol=1e-8, atol=1e-8)
    # From any point of the output's space, not only from the image of x.
    other = jnp.cos(jnp.arange(y.size)).reshape(y.shape)
    other_again = forward(params, inverse(params, other, context)[0], context)[0]
    np.testing.assert_allclose(other_again, other, rtol=1e-8, atol=1e-8)

    # One block an example, and nothing between examples.
    blocks = np.stack([jacobian[i, :, i] for i in range(BATCH)])
    assert np.count_nonzero(jacobian) == np.count_nonzero(blocks)
    assert log_det.shape == (BATCH,)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(blocks)[1], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-8, atol=1e-8)


@every_stage
@every_case
def test_single_precision_is_near_the_exact_log_det(name, stage, params_of):
    arguments = (params_of(name, stage), *inputs(name))
    _, exact, _ = compiled(name).forward(*arguments)
    params, x, context = jax.tree.map(lambda a: a.astype(jnp.float32), arguments)
    with jax.enable_x64(False):
        y, log_det = jax.jit(CASES[name].bijector.forward)(params, x, context)
        x_again, _ = jax.jit(CASES[name].bijector.inverse)(params, y, context)
    assert y.dtype == x_again.dtype == log_det.dtype == jnp.float32
    np.testing.assert_allclose(log_det, exact, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(x_again, x, rtol=1e-4, atol=1e-4)


@every_case
def test_eager_equals_compiled(name, params_of):
    x, context = inputs(name)
    params = params_of(name, "trained")
    expected_y, expected_log_det, _ = compiled(name).forward(params, x, context)
    y, log_det = CASES[name].bijector.forward(params, x, context)
    np.testing.assert_allclose(y, expected_y, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(log_det, expected_log_det, rtol=1e-10, atol=1e-10)


@every_stage
@every_case
def test_gradients_equal_finite_differences(name, stage, params_of):
    value_and_gradients = compiled(name).log_prob
    arguments = (params_of(name, stage), *inputs(name))
    _, gradients = value_and_gradients(*arguments)
    rng = np.random.default_rng(1)
    for i, argument in enumerate(arguments):
        for _ in range(2):
            # A constant has no gradient on purpose, so no direction touches one.
            direction = jax.tree_util.tree_map_with_path(
                lambda path, a: (not train_state.is_constant(path)) * rng.normal(size=a.shape),
                argument,
            )

            def moved(step, i=i, direction=direction):
                there = jax.tree.map(lambda a, d: a + step * d, arguments[i], direction)
                return value_and_gradients(*arguments[:i], there, *arguments[i + 1 :])[0]

            slope = sum(
                jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), gradients[i], direction))
            )
            assert np.isfinite(slope)
            expected = (moved(1e-6) - moved(-1e-6)) / 2e-6
            np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["invertible_conv", "repeat_3_affine_context"])
def test_training_leaves_constants_alone(name, params_of):
    before, after = params_of(name, "noisy"), params_of(name, "trained")
    gradients = compiled(name).log_prob(after, *inputs(name))[1][0]
    seen = {True: 0, False: 0}
    for (path, old), new, gradient in zip(
        jax.tree_util.tree_leaves_with_path(before),
        jax.tree.leaves(after),
        jax.tree.leaves(gradients),
        strict=True,
    ):
        constant = train_state.is_constant(path)
        seen[constant] += 1
        assert bool(jnp.all(old == new)) == constant, path
        assert not jnp.all(gradient == 0) or constant, path
        assert jnp.all(gradient == 0) or not constant, path
    assert seen[True] == 2  # P and the signs
    assert seen[False] >= 3  # L, U and log|s| at the least


def test_affine_log_dets_follow_their_examples(params_of):
    x, context = inputs("coupling_affine_context")
    forward = CASES["coupling_affine_context"].bijector.forward
    params = params_of("coupling_affine_context", "noisy")
    log_det = forward(params, x, context)[1]
    assert abs(log_det[0] - log_det[1]) > 1e-3
    np.testing.assert_allclose(forward(params, x[::-1], context[::-1])[1], log_det[::-1])


def test_actnorm_normalises_its_first_batch():
    x, _ = inputs("actnorm")
    y, log_det = actnorm().forward(actnorm().init(jax.random.key(0), x, None), x, None)
    np.testing.assert_allclose(jnp.mean(y, (0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(jnp.std(y, (0, 1, 2)), 1, rtol=1e-12)
    expected = -HEIGHT * WIDTH * jnp.sum(jnp.log(jnp.std(x, (0, 1, 2))))
    np.testing.assert_allclose(log_det, [expected] * BATCH)


def test_actnorm_starts_as_the_identity_where_nothing_varies():
    x = inputs("actnorm")[0].at[..., 1].set(0.25)
    params = actnorm().init(jax.random.key(0), x, None)
    y, _ = actnorm().forward(params, x, None)
    np.testing.assert_array_equal(y[..., 1], x[..., 1])
    np.testing.assert_allclose(jnp.std(y[..., 0]), 1)
    assert all(bool(jnp.all(jnp.isfinite(p))) for p in params.values())

    identity = actnorm(data_dependent=False)
    y, log_det = identity.forward(identity.init(jax.random.key(0), x, None), x, None)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(log_det, [0, 0])


def test_invertible_conv_starts_as_a_rotation():
    x, _ = inputs("invertible_conv")
    params = invertible_conv().init(jax.random.key(3), x, None)
    y, log_det = invertible_conv().forward(params, x, None)
    np.testing.assert_allclose(jnp.linalg.norm(y, axis=-1), jnp.linalg.norm(x, axis=-1))
    np.testing.assert_allclose(log_det, [0, 0], atol=1e-12)
    assert float(jnp.abs(y - x).max()) > 0.1


def test_invertible_conv_is_in_full_precision_on_accelerators(params_of):
    with jax.enable_x64(False):
        x, params = jax.tree.map(
            lambda a: a.astype(jnp.float32),
            (inputs("invertible_conv")[0], params_of("invertible_conv", "initial")),
        )
        for direction in (invertible_conv().forward, invertible_conv().inverse):
            walk = jax.jit(lambda params, x, walk=direction: walk(params, x, None))
            text = jax.export.export(walk, platforms=["tpu"])(params, x).mlir_module()
            products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
            assert products
            assert all("HIGHEST" in line for line in products)


def test_squeeze_keeps_each_2x2_block_at_one_position():
    x = np.arange(BATCH * 4 * 6 * 3.0).reshape(BATCH, 4, 6, 3)
    y = bijectors.space_to_depth(jnp.asarray(x))
    assert y.shape == (BATCH, 2, 3, 12)
    for row in range(2):
        for col in range(2):
            first = 3 * (2 * row + col)
            np.testing.assert_array_equal(y[..., first : first + 3], x[:, row::2, col::2])
    np.testing.assert_array_equal(bijectors.depth_to_space(y), x)


@pytest.mark.parametrize("stage", ["noisy", "trained"])
@pytest.mark.parametrize("name", REVERSIBLE)
def test_rebuilt_inputs_give_the_gradients_of_stored_ones(name, stage, params_of):
    stored = name.removesuffix("_reversible")
    assert CASES[stored].bijector is not CASES[name].bijector
    arguments = (params_of(stored, stage), *inputs(stored))
    value, gradients = compiled(name).log_prob(*arguments)
    expected_value, expected = compiled(stored).log_prob(*arguments)
    np.testing.assert_allclose(value, expected_value, rtol=1e-13)
    assert_near(gradients, expected, 1e-12)

    # In single precision, too, as near to the exact ones as stored ones come.
    arguments = jax.tree.map(lambda a: a.astype(jnp.float32), arguments)
    with jax.enable_x64(False):
        _, gradients = compiled(name).log_prob(*arguments)
    assert all(g.dtype == jnp.float32 for g in jax.tree.leaves(gradients))
    assert_near(gradients, expected, 3e-5)


@pytest.mark.parametrize(
    "name",
    ["actnorm", "invertible_conv", "chain", "coupling_affine_context", "repeat_3_affine_context"],
)
def test_pull_back_gives_the_input_and_the_gradients(name, params_of):
    bijector, params, (x, context) = CASES[name].bijector, params_of(name, "trained"), inputs(name)
    y, _, _ = compiled(name).forward(params, x, context)
    # -y and 1 are the gradients of the log-density of N(0, 1) and of the log-det in `log_prob`.
    back = jax.jit(functools.partial(pull_back, bijector))
    prepared = bijector.prepare(params)
    x_again, gradients = back(params, prepared, y, context, -y, jnp.ones(BATCH))
    np.testing.assert_allclose(x_again, x, rtol=1e-8, atol=1e-8)
    assert_near(gradients, compiled(name).log_prob(params, x, context)[1], 1e-8)


@pytest.mark.parametrize("name", ["invertible_conv", "repeat_3_affine_context"])
def test_prepared_parameters_do_the_same(name, params_of):
    bijector, params, (x, context) = CASES[name].bijector, params_of(name, "trained"), inputs(name)
    prepared = bijector.prepare(params)
    assert jax.tree.structure(prepared) != jax.tree.structure(params)
    assert_same(bijector.prepare(prepared), prepared)
    y, log_det, _ = compiled(name).forward(params, x, context)
    forward, inverse = jax.jit(bijector.forward), compiled(name).inverse
    for found, expected in (
        (forward(prepared, x, context), (y, log_det)),
        (inverse(prepared, y, context), inverse(params, y, context)),
    ):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10), found, expected)


def test_prepared_parameters_leave_one_product(params_of):
    x, _ = inputs("invertible_conv")
    params = params_of("invertible_conv", "noisy")

    def products(walk, params):
        return str(jax.make_jaxpr(walk)(params, x, None)).count("dot_general")

    prepared = invertible_conv().prepare(params)
    assert invertible_conv().prepare(prepared) is prepared
    for walk in (invertible_conv().forward, invertible_conv().inverse):
        assert products(walk, prepared) == 1 < products(walk, params)


@pytest.mark.parametrize("channels", [3, 5, 12, 96])
def test_invertible_conv_is_inverted_exactly(channels, perturbed):
    """However many channels: the triangles are inverted by blocks of powers of two."""
    pixels = jnp.eye(channels)[None, None]
    params = invertible_conv().init(jax.random.key(0), pixels, None)
    params = perturbed(jax.tree.map(lambda p: p.astype(jnp.float64), params), 0.3 / channels**0.5)
    lower = np.tril(params["lower"], -1) + np.eye(channels)
    upper = np.triu(params["upper"], 1)
    upper += np.diag(params["constants"]["sign"] * np.exp(params["log_s"]))
    matrix = np.asarray(params["constants"]["permutation"]) @ lower @ upper
    assert abs(matrix @ matrix.T - np.eye(channels)).max() > 0.1  # no longer a rotation
    y, _ = invertible_conv().forward(params, pixels, None)
    np.testing.assert_allclose(y[0, 0].T, matrix, rtol=1e-12, atol=1e-12)
    x, _ = invertible_conv().inverse(params, pixels, None)
    np.testing.assert_allclose(x[0, 0].T, np.linalg.inv(matrix), rtol=1e-9, atol=1e-9)


def test_repeated_steps_have_parameters_of_their_own(params_of):
    rotations = params_of("repeat_3_additive", "initial")[1]["upper"]
    assert rotations.shape == (3, 4, 4)
    assert np.all(np.std(rotations, axis=0)[np.triu_indices(4)] > 0)


@pytest.mark.parametrize(("height", "width"), [(3, 4), (4, 5)])
def test_odd_sizes_cannot_be_squeezed(height, width):
    with pytest.raises(ValueError, match=f"Height {height} and width {width} must both"):
        bijectors.space_to_depth(jnp.zeros((1, height, width, 3)))


def test_six_channels_cannot_be_unsqueezed():
    with pytest.raises(ValueError, match="channels, 6, must be divisible by 4"):
        bijectors.depth_to_space(jnp.zeros((1, 2, 2, 6)))


def test_one_channel_cannot_be_coupled():
    with pytest.raises(ValueError, match="at least 2 channels to split, not 1"):
        coupling(network, "affine").init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)), None)


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="'additive' or 'affine', not 'afine'"):
        coupling(network, "afine")
