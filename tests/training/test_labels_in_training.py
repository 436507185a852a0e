"""What training does with labels: some are not told, others are contrasted, with their own rate."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optax.contrib import MuonDimensionNumbers
from tiny_models import BATCH, LABELS, MIXTURE_SIZES, SIZE, tiny

from flowvid import random_keys
from flowvid.config.making import preset_config
from flowvid.errors import ConfigError
from flowvid.training import labels, objectives, train_state, trainer
from flowvid.video import head
from flowvid.video.frames import head_frames

pytest_plugins = ["tiny_models"]

UNET = MIXTURE_SIZES | {
    "preset": "small",
    "variant": "label_everywhere",
    "image_size": SIZE,
    "num_labels": LABELS,
}


def test_a_share_of_the_labels_is_not_told_and_others_stay(batch):
    config = preset_config(**UNET, label_dropout=0.3)
    told = jax.jit(functools.partial(labels.told, config))
    found = np.stack([told(batch, step) for step in range(200)])
    untold = found == LABELS
    assert untold.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / untold.size))
    np.testing.assert_array_equal(
        np.where(untold, np.asarray(batch.label), found), np.broadcast_to(batch.label, found.shape)
    )
    np.testing.assert_array_equal(told(batch, 7), found[7])
    # It depends on the clip's index, so that devices which share a batch draw the same.
    half = jax.tree.map(lambda part: part[2:], batch)
    np.testing.assert_array_equal(told(half, 7), found[7, 2:])
    assert labels.told(preset_config(**UNET, label_dropout=0.0), batch, 0) is batch.label


def test_contrast_compares_a_frame_under_its_label_and_another(batch, params_of):
    config, params = tiny("state_label", label_contrast=0.5), params_of("state_label")["head"]
    loss, logs = jax.jit(functools.partial(objectives.head_loss, config))(params, batch, 3)
    contrast = float(logs["label_contrast"])
    assert float(loss - logs["bits_per_dim"]) == pytest.approx(0.5 * contrast, rel=1e-3)
    keys = random_keys.keys_of_frames(config.seed, random_keys.TRAINING, 3, batch.example)
    x = head_frames(keys, batch, config.metric)
    log_prob = jax.jit(lambda under: head.log_prob(config, params, x, under).log_prob)
    of_labels = np.stack([log_prob(jnp.full(BATCH, label)) for label in range(LABELS)])
    sums = [0.0]
    for frame in range(BATCH):
        own = int(batch.label[frame])
        others = [label for label in range(LABELS) if label != own]
        gaps = [np.logaddexp(0, of_labels[o, frame] - of_labels[own, frame]) for o in others]
        sums = [so_far + gap for so_far in sums for gap in gaps]
    possible = np.array(sums) / BATCH / (SIZE * SIZE * 3 * np.log(2))
    assert np.min(np.abs(possible - contrast)) < 1e-5
    without = tiny("state", label_contrast=0.5)
    head_loss = functools.partial(objectives.head_loss, without)
    _, logs = jax.eval_shape(head_loss, params_of("state")["head"], batch, 3)
    assert "label_contrast" not in logs


def test_labels_and_head_have_their_own_learning_rates():
    """The first step of Adam changes a parameter by the learning rate, whatever the gradient."""
    fields = UNET | {"schedule": "constant", "warmup_steps": 0, "learning_rate": 0.01}
    fields |= {"muon_learning_rate": None}
    config = preset_config(**fields, head_learning_rate=0.02, label_learning_rate=0.003)
    template = trainer.state_template(config)
    for name, rate in (("head", 0.02), ("tail", 0.01)):
        params = jax.tree.map(
            lambda s: np.ones(s.shape, np.float32), getattr(template, name).params
        )
        optimiser = trainer.optimisers(config)[name]
        updates, _ = jax.jit(lambda p, of=optimiser: of.update(p, of.init(p), p))(params)
        rates = {"labels": set(), "rest": set()}
        for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
            keys = [entry.key for entry in path]
            kind = "labels" if "labels" in keys or "of_vector" in keys else "rest"
            rates[kind] |= {round(float(value), 5) for value in np.unique(-np.asarray(leaf))}
        assert rates == {"labels": {0.003}, "rest": {rate}}, name
    same = preset_config(**fields, label_learning_rate=None)
    assert trainer.state_template(same).tail.opt_state.inner_states.keys() == {
        "trained",
        "constant",
    }


@pytest.mark.parametrize("model", ["head", "tail"])
def test_muon_trains_matrices_alone(model):
    """It makes their gradients nearly orthogonal; all other parameters keep Adam's steps."""
    rate, fields = 0.03, UNET | {"schedule": "constant", "warmup_steps": 0, f"{model}_clip": 1e6}
    config = preset_config(**fields, muon_learning_rate=rate)
    params = getattr(trainer.state_template(config), model).params
    rng = np.random.default_rng(0)
    gradients = jax.tree.map(lambda s: np.asarray(rng.normal(size=s.shape), s.dtype), params)
    optimiser = trainer.optimisers(config)[model]
    updates, _ = jax.jit(lambda g: optimiser.update(g, optimiser.init(g), g))(gradients)
    found, given = (dict(jax.tree_util.tree_leaves_with_path(x)) for x in (updates, gradients))
    stretches, lifted_of = {}, []
    for path, dimensions in jax.tree_util.tree_leaves_with_path(
        train_state.matrices(params), is_leaf=lambda x: isinstance(x, MuonDimensionNumbers)
    ):
        rows, columns = dimensions.reduction_axis, dimensions.output_axis
        update = np.asarray(found.pop(path))
        count = math.prod(update.shape[axis] for axis in rows)
        stack, of_gradient = (
            x.reshape(-1, count, update.shape[columns[0]]) for x in (update, given[path])
        )
        scale = rate * max(1, stack.shape[2] / stack.shape[1]) ** 0.5
        left, size, right = np.linalg.svd(of_gradient, full_matrices=False)
        along = -np.einsum("nis,nij,nsj->ns", left, stack, right) / scale
        # Five steps of Newton and Schulz do not lift what is next to nothing.
        lifted = size > 0.01 * np.linalg.norm(size, axis=1, keepdims=True)
        lifted_of.append(lifted.ravel())
        stretches[path] = along[lifted]
    assert np.mean(np.concatenate(lifted_of)) > 0.9
    of_stages, of_causal, of_unet = 4, 4 + 1 + 3, 4  # at least
    assert len(stretches) >= 3 * of_stages + (of_causal if model == "head" else 3 * of_unet)
    for values in stretches.values():
        assert np.all(np.abs(values - 1) < 0.5)
    begins = sum("beginning" in jax.tree_util.keystr(path) for path in found)
    assert begins == (10 if model == "tail" else 0)  # five layers, none of them by Muon
    for path, update in found.items():
        assert not any(getattr(entry, "key", None) == "kernel" for entry in path[:-1])
        steps = np.abs(np.asarray(update))
        np.testing.assert_allclose(steps, steps.flat[0], rtol=1e-3)  # as of Adam's first step
        if train_state.depends_on_label(path):
            assert steps.flat[0] == pytest.approx(config.label_learning_rate, rel=1e-3)
        else:  # with Nesterov's momentum
            assert 1 < steps.flat[0] / config.learning_rate < 1.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": "pyramid"}, r"--context=pyramid cannot encode a label that is not told: use"),
        ({"label_dropout": 1.0}, r"--label_dropout=1.0 must be below 1"),
        ({"head_frames": "first"}, r"--head_frames_drawn=3 needs --head_frames=any"),
        ({"head_frames_drawn": 31}, r"--head_frames_drawn=31 frames cannot be drawn from 30"),
    ],
)
def test_what_cannot_be_trained_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        preset_config("small", **changes)


def test_guidance_has_an_effect_where_some_labels_are_not_told():
    config = preset_config(**UNET)
    assert config.guidance("head") == 3.0
    assert config.guidance("tail") == 1.0
    for changes in ({"label_dropout": 0.0}, {"variant": "state"}):
        assert preset_config(**UNET | changes).guidance("head") is None
    assert preset_config(**UNET | {"variant": "state_label"}).guidance("tail") is None
    assert preset_config("paper", variant="state_label").guidance("head") is None
