"""Combined bijectors: gradients from rebuilt inputs, `pull_back` and `prepare`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bijector_cases import BATCH, CASES, REVERSIBLE, compiled, inputs
from helpers import assert_near, assert_same

from flowvid.flows.bijectors.base import pull_back

pytest_plugins = ["bijector_cases"]
pytestmark = pytest.mark.usefixtures("float64")


def test_repeated_steps_have_parameters_of_their_own(params_of_case):
    rotations = params_of_case("repeat_3_additive", "initial")[1]["lower_upper"]
    assert rotations.shape == (3, 4, 4)
    assert np.all(np.std(rotations, axis=0) > 0)


@pytest.mark.parametrize("stage", ["noisy", "trained"])
@pytest.mark.parametrize("name", REVERSIBLE)
def test_rebuilt_inputs_give_the_gradients_of_stored_ones(name, stage, params_of_case):
    stored = name.removesuffix("_reversible")
    assert CASES[stored].bijector is not CASES[name].bijector
    arguments = (params_of_case(stored, stage), *inputs(stored))
    value, gradients = compiled(name).log_prob(*arguments)
    expected_value, expected = compiled(stored).log_prob(*arguments)
    np.testing.assert_allclose(value, expected_value, rtol=1e-13)
    assert_near(gradients, expected, 1e-12)

    # In single precision, rebuilt inputs cost no more than rounding.
    arguments = jax.tree.map(lambda a: a.astype(jnp.float32), arguments)
    with jax.enable_x64(False):
        _, gradients = compiled(name).log_prob(*arguments)
    assert all(g.dtype == jnp.float32 for g in jax.tree.leaves(gradients))
    assert_near(gradients, expected, 3e-5)


@pytest.mark.parametrize(
    "name",
    ["actnorm", "invertible_conv", "chain", "coupling_affine_context", "repeat_3_affine_context"],
)
def test_pull_back_gives_the_input_and_the_gradients(name, params_of_case):
    bijector, params, (x, context) = (
        CASES[name].bijector,
        params_of_case(name, "trained"),
        inputs(name),
    )
    y, _, _ = compiled(name).forward(params, x, context)
    # -y and 1 are the gradients of the log-density of N(0, 1) and of the log-det in `log_prob`.
    back = jax.jit(functools.partial(pull_back, bijector))
    prepared = bijector.prepare(params)
    x_again, gradients = back(params, prepared, y, context, -y, jnp.ones(BATCH))
    np.testing.assert_allclose(x_again, x, rtol=1e-8, atol=1e-8)
    assert_near(gradients, compiled(name).log_prob(params, x, context)[1], 1e-8)


@pytest.mark.parametrize("name", ["invertible_conv", "repeat_3_affine_context"])
def test_prepared_parameters_do_the_same(name, params_of_case):
    bijector, params, (x, context) = (
        CASES[name].bijector,
        params_of_case(name, "trained"),
        inputs(name),
    )
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
