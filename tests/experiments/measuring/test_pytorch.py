"""The twins in PyTorch have the densities of flowvid's models. They need the extra `bench`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch: pip install 'flowvid[bench]'")

from experiments.measuring import costs
from experiments.measuring.pytorch import glow, steps
from flowvid.training import train_state
from flowvid.video import head, tail
from flowvid.video.frames import TailFrames

GLOW = {
    "preset": "paper_small",
    "levels": 2,
    "head_steps": 2,
    "tail_steps": 2,
    "width": 8,
    "image_size": 8,
    "num_frames": 4,
    "batch_size": 2,
}
MIXTURE = {
    "preset": "small",
    "levels": 2,
    "image_size": 16,
    "components": 3,
    "stage_width": 8,
    "unet_width": 8,
    "features": 4,
    "num_frames": 4,
    "batch_size": 2,
}


@pytest.fixture
def larger_parameters(monkeypatch):
    """Parameters at which every layer changes the density by more than rounding does."""
    drawn = costs.drawn_parameters

    def larger(config):
        factor = 4 if config.flow == "glow" else 20
        return jax.tree_util.tree_map_with_path(
            lambda path, x: x if train_state.is_constant(path) else factor * x, drawn(config)
        )

    monkeypatch.setattr(costs, "drawn_parameters", larger)


def log_density(config, name, params, x, previous):
    """The log-density of frames by flowvid, in nats."""
    frames, clean = jnp.asarray(x), jnp.asarray(previous)
    labels = jnp.zeros(len(x), jnp.int32)
    if name == "head":
        return head.log_prob(config, params, frames, labels).log_prob
    clips = TailFrames(frames[:, None], clean[:, None], None, labels)
    return tail.log_prob(config, params, clips).log_prob[:, 0]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("head", GLOW),
        ("tail", GLOW),
        ("tail", MIXTURE),
        ("tail", MIXTURE | {"n_bits": 8, "levels": 3}),
    ],
)
def test_a_twin_has_the_same_density(larger_parameters, name, changes):
    config = costs.config_of(changes | steps.PLAIN)
    params = costs.drawn_parameters(config)[name]
    frames = steps.random_frames(config, 2)
    found = steps.twin_of(config, name, params)(*steps.as_seen(name, *frames)).detach().numpy()
    off = np.abs(found - np.asarray(log_density(config, name, params, *frames)))
    assert np.max(off) / (frames[0][0].size * np.log(2)) < 2e-5  # bits per dimension


@pytest.mark.parametrize(("name", "changes"), [("head", GLOW), ("tail", MIXTURE)])
def test_every_parameter_of_a_twin_matters(larger_parameters, name, changes):
    config = costs.config_of(changes | steps.PLAIN)
    params = costs.drawn_parameters(config)[name]
    twin = steps.twin_of(config, name, params)
    seen = steps.as_seen(name, *steps.random_frames(config, 2))
    twin(*seen).sum().backward()
    counted = sum(p.numel() for p in twin.parameters())
    assert counted == train_state.num_parameters(params)
    assert all(np.abs(p.grad.numpy()).max() > 1e-6 for p in twin.parameters())


def test_steps_are_taken_in_turns():
    (stored, reversible) = steps.in_turns("tail", GLOW, ["stored", "reversible"], repeats=2)
    assert (stored["backprop"], reversible["backprop"]) == ("stored", "reversible")
    assert len(stored["seconds"]) == len(stored["pytorch_seconds"]) == 2
    assert min(stored["seconds"] + reversible["seconds"] + stored["pytorch_seconds"]) > 0


def test_a_step_of_a_twin_learns():
    config = costs.config_of(GLOW | steps.PLAIN)
    twin = steps.twin_of(config, "head", costs.drawn_parameters(config)["head"])
    assert isinstance(twin, glow.Glow)
    seen = steps.as_seen("head", *steps.random_frames(config, 2))
    before = twin(*seen).mean().item()
    take = steps.step_of_twin(config, "head", twin)
    for _ in range(5):
        take()
    assert twin(*seen).mean().item() > before
