"""The checkpoints that a run keeps, and its best: the same with and without interruptions."""

import os
import signal

import pytest
from helpers import assert_same, saved
from poisoning import EIGHT_STEPS

from flowvid.errors import ConfigError, Stopped
from flowvid.training import loop
from flowvid.training.checkpoints import reading
from flowvid.training.progress import Reporter
from flowvid.training.validation import Validation

pytest_plugins = ["system_fixtures", "poisoning"]
pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.fixture(scope="module")
def config(tiny):
    """A function that makes the configuration of eight steps, with changes."""
    return lambda **changes: tiny(**EIGHT_STEPS | {"eval_every": 2} | changes)


@pytest.fixture
def scripted(monkeypatch):
    """A function that sets the results of validations by step; returns the steps validated.

    The validation of a step in `interrupted` is stopped by SIGTERM.
    """

    def script(results, interrupted=()):
        made = []

        def validate(self, trainer, reporter, stopped):
            if trainer.step in interrupted:
                os.kill(os.getpid(), signal.SIGTERM)
            if stopped():
                return None
            made.append(trainer.step)
            return results[trainer.step]

        monkeypatch.setattr(Validation, "__call__", validate)
        return made

    return script


def kept(workdir):
    """The saved steps, the best of them, and the state of the last, which tells its own step."""
    steps = reading.saved_steps(workdir)
    template = reading.params_template(reading.read_config(workdir)[0])
    _, best = reading.restore_params(workdir, template, checkpoint="best")
    return steps, best, saved(workdir, steps[-1])


def test_a_validation_of_a_step_that_is_not_saved_is_not_the_best(
    config, poison, scripted, tmp_path
):
    poison([12])  # in step 4, so that its checkpoint is not saved
    scripted({2: 2.0, 4: 1.0, 6: 2.5, 8: 2.6, 10: 2.7, 12: 2.8})
    loop.train(config(num_steps=12), tmp_path)
    steps, best, _ = kept(tmp_path)
    assert best == 2
    assert steps == [2, 8, 10, 12]


def test_a_non_finite_last_step_is_saved_and_is_not_the_best(config, poison, scripted, tmp_path):
    poison([12])  # in step 4, the last one
    made = scripted({2: 2.0, 4: 1.0})
    loop.train(config(num_steps=4), tmp_path)
    steps, best, _ = kept(tmp_path)
    assert (steps, best) == ([0, 2, 4], 2)
    assert made == [2, 4]


SCRIPT = {2: 2.0, 4: 1.0, 6: 1.5, 8: 1.6, 10: 1.7, 12: 1.8}


@pytest.fixture(scope="module")
def unbroken(config, poisoned, tmp_path_factory):
    """What is kept of a run of 12 steps that rolls back from step 7 to step 4."""
    workdir = tmp_path_factory.mktemp("unbroken")
    poisoned.update(dict.fromkeys((20, 24), 102))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validation, "__call__", lambda self, trainer, *_: SCRIPT[trainer.step])
        loop.train(config(num_steps=12, max_skips=2), workdir)
    poisoned.clear()
    found = kept(workdir)
    assert found[:2] == ([4, 8, 10, 12], 4)
    return found


@pytest.mark.parametrize("at", [3, 4, 5, 9, 11])
def test_a_run_stopped_after_any_step_keeps_the_same_checkpoints(
    config, poison, scripted, unbroken, tmp_path, monkeypatch, at
):
    poison([20, 24])
    scripted(SCRIPT)
    logged = Reporter.steps_logged

    def signal_in_the_step(self, step, metrics):
        logged(self, step, metrics)
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Reporter, "steps_logged", signal_in_the_step)
        loop.train(config(num_steps=12, max_skips=2), tmp_path)
    loop.train(config(num_steps=12, max_skips=2), tmp_path)
    steps, best, last = kept(tmp_path)
    assert (steps, best) == unbroken[:2]
    assert_same(last, unbroken[2])
    assert not (tmp_path / "damaged").exists()


@pytest.mark.parametrize("at", [4, 10, 12])
def test_a_run_stopped_in_a_validation_makes_up_for_it_once(
    config, poison, scripted, unbroken, tmp_path, at
):
    poison([20, 24])
    scripted(SCRIPT, interrupted={at})
    with pytest.raises(Stopped, match=f"saved at step {at} "):
        loop.train(config(num_steps=12, max_skips=2), tmp_path)
    assert int(saved(tmp_path, at).restore_step) < at  # complete only with its validation
    made = scripted(SCRIPT)
    loop.train(config(num_steps=12, max_skips=2), tmp_path)
    assert made.count(at) == 1
    steps, best, last = kept(tmp_path)
    assert (steps, best) == unbroken[:2]
    assert_same(last, unbroken[2])
    made.clear()
    loop.train(config(num_steps=12, max_skips=2), tmp_path)
    assert made == []


def test_without_a_validation_there_is_no_best(config, tmp_path):
    loop.train(config(num_steps=0), tmp_path)
    with pytest.raises(ConfigError, match="has a finite validation"):
        kept(tmp_path)
