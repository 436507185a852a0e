"""Replays of kept batches name the examples that are non-finite."""

import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import assert_one_line
from helpers import saved
from poisoning import EIGHT_STEPS, POISONED

from flowvid.errors import ConfigError
from flowvid.training import loop, objectives
from flowvid.training.checkpoints import reading
from flowvid.training.resilience import replay
from flowvid.video.frames import Batch

pytest_plugins = ["system_fixtures", "poisoning", "command_line"]


@pytest.fixture(scope="module")
def config(tiny):
    """A function that returns the configuration of eight steps, with changes."""
    return lambda **changes: tiny(**EIGHT_STEPS | changes)


@pytest.fixture(scope="module")
def kept(config, poisoned, tmp_path_factory):
    """A workdir with a kept batch, of step 3, in which the example at position 9 was poisoned."""
    workdir = tmp_path_factory.mktemp("kept")
    poisoned[9] = POISONED["tail"]
    loop.train(config(num_steps=3), workdir)
    poisoned.clear()
    (batch,) = (workdir / "incidents").glob("*.npz")
    return workdir, batch


def test_a_replay_names_the_example(kept):
    at, rows = replay.replay(*kept)
    assert at == 2
    assert [(row.model, row.example) for row in rows] == [
        (name, example) for name in ("head", "tail") for example in (8, 9, 10, 11)
    ]
    assert [(row.model, row.example) for row in rows if not row.finite] == [("tail", 9)]
    assert set(rows[-1].gradient_norms) == {"flow", "pyramid"}
    table = replay.format_rows(at, rows)
    (marked,) = (line for line in table.splitlines() if line.endswith("<- non-finite"))
    assert re.search(rf"^ +9 +{rows[5].id} +tail +nan +flow", marked)


def test_a_replay_is_what_the_step_computed(kept):
    """The mean of the losses of single examples is the loss of the batch, with the same noise."""
    workdir, batch = kept
    _, rows = replay.replay(workdir, batch)
    config = reading.read_config(workdir)[0]
    params = jax.tree.map(jnp.asarray, saved(workdir, 2).head.params)
    with np.load(batch) as kept_batch:
        fields = (jnp.asarray(kept_batch[name]) for name in ("video", "label", "index"))
        whole = Batch(*fields)
    bits, _ = jax.jit(objectives.head_loss, static_argnums=0)(config, params, whole, 2)
    alone = [row.bits_per_dim for row in rows if row.model == "head"]
    assert np.mean(alone) == pytest.approx(float(bits), rel=1e-5)


def test_a_replay_falls_roll_back_the_oldest_checkpoint(kept, tmp_path):
    workdir, batch = kept
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
    for step in (0, 2):
        shutil.rmtree(tmp_path / "checkpoints" / str(step))
    assert replay.replay(tmp_path, batch)[0] == 3


def test_what_is_no_kept_batch_is_refused(kept, tmp_path):
    workdir, _ = kept
    (tmp_path / "no.npz").write_bytes(b"nothing")
    np.savez(tmp_path / "other.npz", step=1)
    for name in ("missing.npz", "no.npz", "other.npz"):
        with pytest.raises(ConfigError, match=f"{name} holds no batch that a run has kept"):
            replay.replay(workdir, tmp_path / name)


def test_inspect_prints_and_trains_nothing(kept, call, data_dir):
    workdir, batch = kept
    before = sorted((workdir / "checkpoints").iterdir())
    code, out, _ = call("train", f"--workdir={workdir}", f"--inspect={batch}", "--num_steps=9")
    assert code == 0
    assert "Each example alone, with the parameters of step 2:" in out
    assert out.count(" tail ") == out.count(" head ") == 4
    assert sorted((workdir / "checkpoints").iterdir()) == before
    result = call("train", f"--workdir={workdir}", "--inspect=elsewhere.npz")
    assert_one_line(result, "--inspect=elsewhere.npz holds no batch")
