"""The moving average of the parameters: its values, and that evaluation uses it."""

import json

import jax
import numpy as np
import pytest
from helpers import assert_same, events, saved

import flowvid
from flowvid import random_keys
from flowvid.errors import ConfigError
from flowvid.evaluation import scoring
from flowvid.parallel.devices import replicate
from flowvid.training import loop
from flowvid.training.checkpoints import saving
from flowvid.training.train_state import is_constant

pytest_plugins = ["system_fixtures", "command_line"]
pytestmark = pytest.mark.usefixtures("compiled_once")

DECAY = 0.15  # reached within the first steps, which rise as 1 / 10, 2 / 11


@pytest.fixture(scope="module")
def averaged(tiny, tmp_path_factory):
    """A run with an average, its workdir and configuration."""
    workdir = tmp_path_factory.mktemp("averaged")
    config = tiny(
        variant="state_label", ema_decay=DECAY, num_steps=3, checkpoint_every=1, eval_every=3
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "KEEP", 4)  # all
        loop.train(config, workdir)
    return workdir, config


@pytest.mark.parametrize("model", ["head", "tail"])
def test_it_is_the_average_over_the_steps_and_leaves_constants_alone(averaged, model):
    states = [getattr(saved(averaged[0], step), model) for step in range(4)]
    assert_same(states[0].average, states[0].params)
    leaves = zip(
        jax.tree_util.tree_leaves_with_path(states[3].average),
        *(jax.tree.leaves(state.params) for state in states),
        strict=True,
    )
    moved = 0
    for (path, average), *params in leaves:
        if is_constant(path):
            np.testing.assert_array_equal(average, params[0])
            continue
        expected = params[0].astype(np.float64)
        for new, decay in zip(params[1:], (1 / 10, DECAY, DECAY), strict=True):
            expected = decay * expected + (1 - decay) * new
        np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-8)
        moved += int((average != params[3]).any())
    assert moved > 10


def test_a_stopped_run_ends_in_the_same_average(averaged, tiny, tmp_path):
    workdir, config = averaged
    fields = {"variant": "state_label", "ema_decay": DECAY, "checkpoint_every": 1, "eval_every": 3}
    loop.train(tiny(num_steps=2, **fields), tmp_path)
    assert_same(loop.train(tiny(num_steps=3, **fields), tmp_path), saved(workdir, 3))
    assert config.num_steps == 3


@pytest.mark.parametrize("decay", [1.0, 1.5])
def test_a_decay_must_be_below_one(tiny, decay):
    with pytest.raises(ConfigError, match=rf"--ema_decay={decay} must be below 1"):
        tiny(ema_decay=decay)


def test_load_uses_it_by_default(averaged):
    workdir, _ = averaged
    run = saved(workdir, 3)
    model = flowvid.load(workdir)
    assert model.averaged
    assert_same(model.params, {"head": run.head.average, "tail": run.tail.average})
    model = flowvid.load(workdir, average=False)
    assert not model.averaged
    assert_same(model.params, {"head": run.head.params, "tail": run.tail.params})


def evaluated(workdir):
    return json.loads((workdir / "evaluation.json").read_text())


def test_validation_and_evaluation_are_of_the_average(averaged, call):
    workdir, _ = averaged
    code, out, _ = call("evaluate", f"--workdir={workdir}", "--metrics=5-bit")
    assert code == 0
    assert "state_label, step 3 (moving average): bits per dimension" in out
    report = evaluated(workdir)
    assert report["averaged"]
    # Validation has the noise of its own streams; with it, the loaded average has the same bits.
    loaded, scalars = flowvid.load(workdir), events(workdir)
    config, _, held_out = loop.prepare(loaded.config)
    step = scoring.evaluator(config, config.metric)
    noise = scoring.Noise(config.seed, random_keys.VALIDATION)
    weights = replicate(loaded.params)
    scores = scoring.score(step, weights, noise, held_out, 4, len(held_out), "again")
    for model in ("head", "tail"):
        validated = scalars[f"validation/{model}/bits_per_dim_5-bit"][3]
        assert np.mean(getattr(scores, model)) == pytest.approx(validated, rel=1e-5)
        bits = report["metrics"]["5-bit"][model]["bits_per_dim"]
        assert bits == pytest.approx(validated, rel=0.05)
    code, out, _ = call("evaluate", f"--workdir={workdir}", "--metrics=5-bit", "--noaverage")
    assert code == 0
    assert "state_label, step 3: bits per dimension" in out
    assert not evaluated(workdir)["averaged"]
    other = evaluated(workdir)["metrics"]["5-bit"]
    for model in ("head", "tail"):
        assert other[model]["bits_per_dim"] != report["metrics"]["5-bit"][model]["bits_per_dim"]


def test_any_kept_checkpoint_is_evaluated_and_sampled_from(averaged, call, tmp_path):
    workdir, _ = averaged
    for which, step in (("2", 2), ("best", 3)):
        args = (f"--workdir={workdir}", f"--checkpoint={which}", "--metrics=5-bit")
        assert call("evaluate", *args)[0] == 0
        assert evaluated(workdir)["step"] == step
    pictures = []
    for which, *more in (("2",), ("3",), ("3", "--noaverage"), ("last",)):
        out = tmp_path / str(len(pictures))
        args = (f"--workdir={workdir}", f"--checkpoint={which}", *more, f"--out={out}")
        assert call("sample", *args, "--num_videos=1", "--num_frames=2")[0] == 0
        pictures.append((out / "samples.png").read_bytes())
    assert len(set(pictures)) == 3
    assert pictures[3] == pictures[1]
