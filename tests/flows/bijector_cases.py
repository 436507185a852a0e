"""The bijectors under test, with inputs, compiled functions and parameters that test files share.

A bijector or a configuration of one is tested by adding a line to `CASES`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flowvid.config.making import preset_config
from flowvid.flows import bijectors
from flowvid.flows.bijectors import Bijector, actnorm, coupling, invertible_conv, repeat, squeeze
from flowvid.flows.coupling_network import CouplingNetwork
from flowvid.flows.density import gaussian_log_density
from flowvid.flows.glow.flow import flow_step
from flowvid.training import train_state

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
REVERSIBLE = [name for name in CASES if name.endswith("_reversible")]


@functools.cache
def inputs(name):
    case, rng = CASES[name], np.random.default_rng(0)
    x = 0.5 + 2 * rng.normal(size=(BATCH, HEIGHT, WIDTH, case.channels))
    context = None if case.context is None else jnp.asarray(rng.normal(size=(BATCH, *case.context)))
    return jnp.asarray(x), context


class Compiled(NamedTuple):
    """The functions of a case, compiled once for all stages and tests."""

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
    return jax.tree.map(lambda p: jnp.asarray(np.asarray(p, np.float64)), params)


@functools.cache
def trained(name, perturbed):
    """Returns noisy parameters after steps of Adam that raise the log-density of the inputs."""
    optimiser = train_state.optimizer(preset_config("paper_small", warmup_steps=0), 50.0)
    params = perturbed(initial(name))
    opt_state = jax.jit(optimiser.init)(params)

    @jax.jit
    def update(gradients, opt_state, params):
        descent = jax.tree.map(lambda g: -g / inputs(name)[0].size, gradients)
        updates, opt_state = optimiser.update(descent, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    for _ in range(20):
        gradients = compiled(name).log_prob(params, *inputs(name))[1][0]
        params, opt_state = update(gradients, opt_state, params)
    return params


@pytest.fixture(scope="session")
def params_of_case(perturbed):
    """Returns a function from a case and a stage, initial, noisy or trained, to parameters."""
    stages = {
        "initial": initial,
        "noisy": lambda name: perturbed(initial(name)),
        "trained": lambda name: trained(name, perturbed),
    }
    return lambda name, stage: stages[stage](name)
