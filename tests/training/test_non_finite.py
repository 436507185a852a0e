"""Non-finite steps are skipped, logged and kept, and rolled back when there are too many."""

import json
import os
import signal

import numpy as np
import pytest
from command_line import assert_one_line
from helpers import TINY, assert_same, saved
from poisoning import EIGHT_STEPS

from flowvid.data import datasets
from flowvid.errors import Stopped, TrainingError
from flowvid.training import loop
from flowvid.training.checkpoints import reading
from flowvid.training.progress import Reporter
from flowvid.training.resilience import non_finite

pytest_plugins = ["system_fixtures", "poisoning", "command_line"]


pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.fixture(scope="module")
def config(tiny):
    """A function that makes the configuration of eight steps, with changes."""
    return lambda **changes: tiny(**EIGHT_STEPS | changes)


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


def test_a_run_that_is_given_up_ends_in_one_line(data_dir, tmp_path, call, poison):
    poison(range(10_000))
    fields = {**TINY, "data_dir": data_dir, "workdir": tmp_path, "max_skips": 1, "max_restores": 0}
    result = call("train", *(f"--{name}={value}" for name, value in fields.items()))
    assert_one_line(result, "training stops at step 1")
