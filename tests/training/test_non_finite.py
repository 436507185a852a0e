"""Steps that are not finite: skipped, told, kept, undone when there are too many, and replayed."""

import json
import os
import re
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import assert_one_line
from helpers import TINY, assert_same, saved

from flowvid.data import datasets
from flowvid.errors import ConfigError, Stopped, TrainingError
from flowvid.training import loop, objectives
from flowvid.training.checkpoints import reading
from flowvid.training.progress import Reporter
from flowvid.training.resilience import non_finite, replay
from flowvid.video.frames import Batch

pytest_plugins = ["system_fixtures", "command_line"]


POISONED = {"head": 101, "tail": 102}  # labels, which prev_frame does not look at


@pytest.fixture(scope="module", autouse=True)
def poisoned(compiled_once):
    """The labels of poisoned examples by their positions in the data; empty for each test.

    A loss is NaN where it sees such a label, so that all tests share the compiled steps.
    """
    marked = {}
    honest_batches, honest_losses = datasets.train_batches, dict(objectives.LOSSES)

    def batches(*args, **kwargs):
        for batch in honest_batches(*args, **kwargs):
            pairs = zip(batch["index"], batch["label"], strict=True)
            label = [marked.get(index, honest) for index, honest in pairs]
            yield batch | {"label": np.array(label, np.int32)}

    def loss_of(name):
        def loss(config, params, batch, step):
            value, logs = honest_losses[name](config, params, batch, step)
            value = value * jnp.where((batch.label == POISONED[name]).any(), jnp.nan, 1.0)
            return value, logs | {"bits_per_dim": value}

        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "train_batches", batches)
        for name in honest_losses:
            patch.setitem(objectives.LOSSES, name, loss_of(name))
        yield marked


@pytest.fixture
def poison(poisoned):
    """A function that poisons a model's loss on the examples at given positions in the data."""

    def poison(positions, name="tail"):
        poisoned.update(dict.fromkeys(positions, POISONED[name]))

    yield poison
    poisoned.clear()


@pytest.fixture(scope="module")
def config(tiny):
    """Four examples a step: step s holds the positions 4 (s - 1) to 4 s - 1."""
    fields = {"variant": "prev_frame", "num_steps": 8, "checkpoint_every": 2, "eval_every": 100}
    return lambda **changes: tiny(**fields | changes)


def log_of(workdir):
    """The events that a run has written down."""
    lines = (workdir / "incidents" / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def without_time(events):
    return [{k: v for k, v in event.items() if k != "time"} for event in events]


def test_a_poisoned_example_is_written_down_and_its_batch_kept(config, poison, tmp_path, caplog):
    poison([9])  # in step 3
    config, dataset, _ = loop.prepare(config())
    run = loop.train(config, tmp_path)
    assert (int(run.step), int(run.examples)) == (8, 32)
    assert (int(run.head.skipped), int(run.tail.skipped)) == (0, 1)
    assert int(run.tail.skipped_in_a_row) == 0
    (event,) = log_of(tmp_path)
    batch = next(datasets.train_batches(dataset, batch_size=4, seed=config.seed, start=8))
    expected = {"event": "non-finite", "model": "tail", "step": 3, "in_a_row": 1}
    expected |= {"bits_per_dim": "nan", "examples": [8, 12], "ids": batch["id"]}
    assert {name: event[name] for name in expected} == expected
    norms = {name for name in event if name.startswith("gradient_norm")}
    assert norms == {"gradient_norm", "gradient_norm/flow", "gradient_norm/pyramid"}
    with np.load(tmp_path / "incidents" / event["batch"]) as kept:
        for field in ("video", "label", "index", "id"):
            np.testing.assert_array_equal(kept[field], batch[field])
        assert kept["step"] == 3
    assert "Step 3 of the tail is skipped: bits per dimension nan" in caplog.text


def test_too_many_in_a_row_go_roll_back_the_last_checkpoint_and_past_their_data(
    config, poison, tmp_path, caplog
):
    poison([21, 24], "head")  # in the steps 6 and 7: steps 4 and 6 have checkpoints due
    poison([25])
    run = loop.train(config(max_skips=2), tmp_path)
    assert (int(run.step), int(run.examples)) == (8, (8 + 3) * 4)  # steps 5 to 7 are done again
    assert int(run.head.skipped) == int(run.head.skipped_in_a_row) == 0
    events = [(e["event"], e["step"], e.get("model"), e.get("in_a_row")) for e in log_of(tmp_path)]
    assert events == [
        ("non-finite", 6, "head", 1),
        ("non-finite", 7, "head", 2),
        ("non-finite", 7, "tail", 1),
        ("restored", 7, None, None),
    ]
    restored = log_of(tmp_path)[-1]
    assert (restored["to"], restored["examples"]) == (4, 28)
    assert "rolled back from step 7 to the checkpoint of step 4" in caplog.text
    assert reading.saved_steps(tmp_path) == [4, 6, 8]  # 6 only of the second time


def test_no_checkpoint_is_saved_in_the_middle_of_bad_steps(config, poison, tmp_path):
    poison([4, 8, 12])  # in the steps 2 to 4
    loop.train(config(num_steps=5), tmp_path)
    assert reading.saved_steps(tmp_path) == [0, 5]


def test_the_end_is_saved_even_so_and_is_not_taken_for_a_good_one(config, poison, tmp_path):
    poison([12, 16])  # in the steps 4 and 5
    loop.train(config(num_steps=4, max_skips=2), tmp_path)
    assert reading.saved_steps(tmp_path) == [0, 2, 4]
    assert int(saved(tmp_path, 4).tail.skipped_in_a_row) == 1
    run = loop.train(config(num_steps=6, max_skips=2), tmp_path)
    assert (int(run.step), int(run.examples)) == (6, 6 * 4 + 3 * 4)
    assert log_of(tmp_path)[-1]["to"] == 2
    assert int(saved(tmp_path, 4).tail.skipped_in_a_row) == 0  # saved again, from other data


@pytest.mark.parametrize("at", [5, 6, 7])
def test_a_poisoned_run_stopped_anywhere_ends_in_the_same_bits(
    config, poison, tmp_path, monkeypatch, at
):
    poison([21, 24])  # as above: back from step 7 to step 4
    config = config(max_skips=2, log_every=100)
    unbroken = loop.train(config, tmp_path / "unbroken")
    add = non_finite.NonFiniteSteps.add

    def stop_at(self, completed, wait):
        if completed.step == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return add(self, completed, wait)

    with monkeypatch.context() as patch:
        patch.setattr(non_finite.NonFiniteSteps, "add", stop_at)
        with pytest.raises(Stopped) as stopped:
            loop.train(config, tmp_path / "broken")
    last = reading.saved_steps(tmp_path / "broken")[-1]
    assert f"saved at step {last} " in str(stopped.value)
    assert last == (5 if at == 5 else 4)  # bad steps are not saved
    resumed = loop.train(config, tmp_path / "broken")
    assert_same(resumed, unbroken)
    assert (
        without_time(log_of(tmp_path / "broken"))[-1]
        == without_time(log_of(tmp_path / "unbroken"))[-1]
    )


def test_a_run_that_does_not_get_better_is_given_up(config, poison, tmp_path):
    poison(range(8, 10_000))
    message = r"training stops at step 4: 2 steps in a row had a non-finite .* after 1 rollbacks to"
    with pytest.raises(TrainingError, match=message):
        loop.train(config(max_skips=2, max_restores=1), tmp_path)
    assert reading.saved_steps(tmp_path) == [0, 2]
    assert [e["event"] for e in log_of(tmp_path)].count("restored") == 1


def test_restores_are_counted_from_the_last_checkpoint_on(config, poison, tmp_path):
    poison([*range(8, 16), *range(24, 32)])  # two bad stretches, a checkpoint between them
    run = loop.train(config(max_skips=2, max_restores=1), tmp_path)
    assert int(run.step) == 8
    assert [e["to"] for e in log_of(tmp_path) if e["event"] == "restored"] == [2, 4]


def test_only_the_first_batches_are_kept(config, poison, tmp_path, monkeypatch):
    monkeypatch.setattr(non_finite, "KEEP", 1)
    poison([4, 12])
    loop.train(config(num_steps=4), tmp_path)
    assert [bool(event["batch"]) for event in log_of(tmp_path)] == [True, False]
    assert len(list((tmp_path / "incidents").glob("*.npz"))) == 1


def test_the_progress_bar_goes_back_with_the_run(config, poison, tmp_path, monkeypatch):
    shown = []
    roll_back = Reporter.roll_back

    def note(self, run):
        shown.append(self.bar.n)
        roll_back(self, run)
        shown.append(self.bar.n)

    monkeypatch.setattr(Reporter, "roll_back", note)
    poison(range(8, 16))
    loop.train(config(max_skips=2), tmp_path)
    assert shown[0] in (4, 5)
    assert shown[1] == 2


# Replays.


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
    """The mean over the examples, alone, is the loss of the batch, with the noise that it had."""
    workdir, batch = kept
    _, rows = replay.replay(workdir, batch)
    config = reading.read_config(workdir)[0]
    params = jax.tree.map(jnp.asarray, saved(workdir, 2).head.params)
    with np.load(batch) as kept_batch:
        fields = (jnp.asarray(kept_batch[name]) for name in ("video", "label", "index"))
        whole = Batch(*fields)
    bits, _ = objectives.head_loss(config, params, whole, 2)
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


def test_a_run_that_is_given_up_ends_in_one_line(data_dir, tmp_path, call, poison):
    poison(range(10_000))
    fields = {**TINY, "data_dir": data_dir, "workdir": tmp_path, "max_skips": 1, "max_restores": 0}
    result = call("train", *(f"--{name}={value}" for name, value in fields.items()))
    assert_one_line(result, "training stops at step 1")
