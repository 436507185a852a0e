"""Every bijector is invertible, with the log-determinant of its Jacobian and right gradients.

Each case of `bijector_cases` is tested with its initial parameters, and with noisy ones after steps
of Adam, which would reveal a constant that training moves, or a formula that only holds for zero
weights.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bijector_cases import BATCH, CASES, REVERSIBLE, compiled, inputs

from flowvid.training import train_state

pytest_plugins = ["bijector_cases"]
pytestmark = pytest.mark.usefixtures("float64")

# Forward and inverse do not depend on `reversible`: two of its cases go through all checks.
every_case = pytest.mark.parametrize(
    "name", [name for name in CASES if name not in REVERSIBLE[1:3]]
)
every_stage = pytest.mark.parametrize("stage", ["initial", "trained"])


@every_stage
@every_case
def test_invertible_with_the_log_det_of_the_jacobian(name, stage, params_of_case):
    params, (x, context) = params_of_case(name, stage), inputs(name)
    forward, inverse, _ = compiled(name)
    y, log_det, jacobian = forward(params, x, context)
    x_again, inverse_log_det = inverse(params, y, context)
    np.testing.assert_allclose(x_again, x, rtol=1e-8, atol=1e-8)
    # The inverse is defined at any point of the output's space, not only at the image of x.
    other = jnp.cos(jnp.arange(y.size)).reshape(y.shape)
    other_again = forward(params, inverse(params, other, context)[0], context)[0]
    np.testing.assert_allclose(other_again, other, rtol=1e-8, atol=1e-8)

    # The Jacobian has one block per example, and zeros between examples.
    blocks = np.stack([jacobian[i, :, i] for i in range(BATCH)])
    assert np.count_nonzero(jacobian) == np.count_nonzero(blocks)
    assert log_det.shape == (BATCH,)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(blocks)[1], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-8, atol=1e-8)


@every_stage
@every_case
def test_single_precision_is_near_the_exact_log_det(name, stage, params_of_case):
    arguments = (params_of_case(name, stage), *inputs(name))
    _, exact, _ = compiled(name).forward(*arguments)
    params, x, context = jax.tree.map(lambda a: jnp.asarray(np.float32(a)), arguments)
    with jax.enable_x64(False):
        y, log_det = jax.jit(CASES[name].bijector.forward)(params, x, context)
        x_again, _ = jax.jit(CASES[name].bijector.inverse)(params, y, context)
    assert y.dtype == x_again.dtype == log_det.dtype == jnp.float32
    np.testing.assert_allclose(log_det, exact, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(x_again, x, rtol=1e-4, atol=1e-4)


@every_case
def test_eager_equals_compiled(name, params_of_case):
    x, context = inputs(name)
    params = params_of_case(name, "trained")
    expected_y, expected_log_det, _ = compiled(name).forward(params, x, context)
    y, log_det = CASES[name].bijector.forward(params, x, context)
    np.testing.assert_allclose(y, expected_y, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(log_det, expected_log_det, rtol=1e-10, atol=1e-10)


@every_stage
@every_case
def test_gradients_equal_finite_differences(name, stage, params_of_case):
    value_and_gradients = compiled(name).log_prob
    # On the host: JAX would compile sums and products for each shape.
    arguments = jax.tree.map(np.asarray, (params_of_case(name, stage), *inputs(name)))
    _, gradients = value_and_gradients(*arguments)
    rng = np.random.default_rng(1)
    for i, argument in enumerate(arguments):
        for _ in range(2):
            # Constants have no gradient by design, so no direction moves them.
            direction = jax.tree_util.tree_map_with_path(
                lambda path, a: (not train_state.is_constant(path)) * rng.normal(size=a.shape),
                argument,
            )

            def moved(step, i=i, direction=direction):
                there = jax.tree.map(lambda a, d: a + step * d, arguments[i], direction)
                return value_and_gradients(*arguments[:i], there, *arguments[i + 1 :])[0]

            slope = sum(
                jax.tree.leaves(
                    jax.tree.map(lambda g, d: np.sum(np.asarray(g) * d), gradients[i], direction)
                )
            )
            assert np.isfinite(slope)
            expected = (moved(1e-6) - moved(-1e-6)) / 2e-6
            np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["invertible_conv", "repeat_3_affine_context"])
def test_training_leaves_constants_alone(name, params_of_case):
    before, after = params_of_case(name, "noisy"), params_of_case(name, "trained")
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
    assert seen[False] >= 1  # at least L, U and log|s| in one matrix
