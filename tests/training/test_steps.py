"""Training steps: they lower the loss, skip non-finite ones, and do not depend on the devices."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_models import tiny

from flowvid.parallel.devices import DEVICES, on_devices, replicate, shard, unreplicate
from flowvid.training import objectives, steps, train_state

pytest_plugins = ["tiny_models"]

every_model = pytest.mark.parametrize("model", objectives.LOSSES)


@functools.cache
def training(model):
    """(optimiser, body of the step, the step compiled for one device) of a model."""
    config = tiny("state_label")
    optimiser = train_state.optimizer(config, clip=50.0)
    body = functools.partial(steps.train_step, config, objectives.LOSSES[model], optimiser, 50.0)
    return optimiser, body, jax.jit(jax.vmap(body, axis_name=DEVICES))


def on_one_device(tree):
    return jax.tree.map(lambda x: jnp.asarray(x)[None], tree)


@pytest.fixture(scope="module")
def fresh(params_of):
    """The state before the first step of a model, on one device."""

    def fresh(model):
        params = params_of("state_label")[model]
        return on_one_device(train_state.create(tiny("state_label"), params, training(model)[0]))

    return fresh


@every_model
def test_training_lowers_the_loss(model, fresh, batch):
    step, current, bits = training(model)[2], fresh(model), []
    for _ in range(15):
        current, logs = step(current, on_one_device(batch))
        bits.append(float(logs["bits_per_dim"][0]))
    assert bits[-1] < bits[0] - 0.1
    assert int(current.step[0]) == 15
    assert int(current.skipped[0]) == 0
    parts = {"head": {"flow", "labels", "pyramid"}, "tail": {"flow", "pyramid", "processor"}}
    assert {name for name in logs if "/" in name} == {f"gradient_norm/{p}" for p in parts[model]}
    norms = [float(logs[f"gradient_norm/{part}"][0]) for part in parts[model]]
    assert min(norms) > 0
    np.testing.assert_allclose(logs["gradient_norm"][0], np.linalg.norm(norms), rtol=1e-5)


@every_model
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(model, fresh, batch):
    before = fresh(model)
    mean = before.params["flow"]["last_prior"]["mean"]
    before.params["flow"]["last_prior"]["mean"] = mean.at[0, 0].set(jnp.inf)
    after, logs = training(model)[2](before, on_one_device(batch))
    assert not np.isfinite(logs["bits_per_dim"][0])
    assert (int(after.step[0]), int(after.skipped[0]), int(logs["skipped"][0])) == (1, 1, 1)
    jax.tree.map(
        np.testing.assert_array_equal,
        (after.params, after.opt_state),
        (before.params, before.opt_state),
    )


@every_model
def test_two_devices_take_the_step_of_one(model, fresh, batch):
    assert jax.local_device_count() == 2
    start = fresh(model)
    one, one_logs = training(model)[2](start, on_one_device(batch))
    step = on_devices(training(model)[1])
    two, two_logs = step(replicate(unreplicate(start)), shard(batch))
    for leaf in jax.tree.leaves((two, two_logs)):
        np.testing.assert_array_equal(leaf[0], leaf[1])

    def close(a, b, scale=1.0):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * scale)

    one, two, one_logs, two_logs = map(unreplicate, (one, two, one_logs, two_logs))
    jax.tree.map(close, two_logs, one_logs)
    # Adam's first moment is linear in the gradient; its first step is the sign, so a gradient that
    # is rounding alone may move its parameter by a whole step of either sign.
    first_moments = [optax.tree.get(s.opt_state, "mu") for s in (two, one)]
    jax.tree.map(functools.partial(close, scale=0.1), *first_moments)
    moved = optax.tree.norm(jax.tree.map(np.subtract, one.params, two.params))
    whole = optax.tree.norm(jax.tree.map(np.subtract, one.params, unreplicate(start).params))
    assert float(moved) < 0.05 * float(whole)


def test_a_batch_that_does_not_divide_names_both_numbers(batch):
    with pytest.raises(ValueError, match=r"A batch of 3 videos .* 2 devices: .* multiple of 2"):
        shard(jax.tree.map(lambda x: x[:3], batch))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@every_model
def test_the_step_lowers_for_accelerators(model, platform, fresh, batch):
    exported = jax.export.export(training(model)[2], platforms=[platform])
    text = exported(fresh(model), on_one_device(batch)).mlir_module()
    assert "stablehlo.convolution" in text
