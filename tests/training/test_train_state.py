"""The state of a model: its number of parameters, and the learning rate of its optimizer."""

import jax
import numpy as np
import optax
import pytest

from flowvid.config.making import preset_config
from flowvid.training import train_state
from flowvid.video.joint import params_template


def test_the_papers_head_has_the_parameters_of_the_formula():
    """Counted by hand; P and the signs of the 1x1 convolutions are no parameters."""
    config = preset_config("paper")
    width, steps = 512, 32
    count = 0
    for channels in (12, 24, 48, 96):  # at each level, after the squeeze
        half = channels // 2
        actnorm = 2 * channels
        lower_upper = channels**2  # L below the diagonal, U above it, log|s| on it
        coupling = (
            (9 * half * width + width) + (width**2 + width) + (9 * width * half + half) + half
        )
        count += steps * (actnorm + lower_upper + coupling)
        # A convolution from the kept half to the mean and log-scale of the other half, with biases
        # and scales; the last level has a learned mean and log-scale of all channels instead.
        last = channels == 96
        count += 2 * channels if last else 9 * half * channels + channels + channels
    template = params_template(config)["head"]
    assert train_state.num_parameters(template) == count == 60_650_512
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(template))


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("warmup_steps", [0, 1, 2, 7])
def test_the_learning_rate_warms_up_from_its_first_step_on(schedule, warmup_steps):
    config = preset_config(
        "paper_small",
        schedule=schedule,
        warmup_steps=warmup_steps,
        num_steps=20,
        learning_rate=0.003,
    )
    rates = np.array([train_state.learning_rate(config, 0.003)(step) for step in range(25)])
    steps = np.arange(25)
    expected = 0.003 * np.minimum(1, (steps + 1) / max(warmup_steps, 1))
    if schedule == "cosine":
        fraction = np.clip((steps - warmup_steps) / (20 - warmup_steps), 0, 1)
        expected *= (1 + np.cos(np.pi * fraction)) / 2
    np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("warmup_steps", [0, 1, 2, 7])
def test_a_constant_schedule_is_constant_after_the_warm_up_in_every_bit(warmup_steps):
    config = preset_config("paper_small", schedule="constant", warmup_steps=warmup_steps)
    rate = train_state.learning_rate(config, config.learning_rate)
    peak = optax.constant_schedule(config.learning_rate)
    for step in range(max(warmup_steps - 1, 0), 20):
        assert np.float32(rate(step)) == np.float32(peak(step))
