"""Checkpoints: what is saved comes back bit by bit, from the run's folder alone."""

import jax
import numpy as np
import pytest
from helpers import assert_same

from flowvid import checkpoints, model, training
from flowvid import config as config_lib
from flowvid.errors import ConfigError

pytest_plugins = ["system_fixtures"]


def test_a_state_comes_back_as_it_was_saved(tiny, tmp_path):
    config, dataset, _ = training.prepare(tiny(variant="state_label"))
    rng = np.random.default_rng(0)
    template = training.state_template(config)
    state = jax.tree.map(lambda x: np.asarray(rng.integers(0, 100, x.shape) / 7, x.dtype), template)
    state = state._replace(step=np.asarray(3), examples=np.asarray(2**40))
    with checkpoints.manager(tmp_path) as manager:
        assert checkpoints.restore(manager, template) is None
        checkpoints.save(manager, state)
    with checkpoints.manager(tmp_path) as manager:
        restored = checkpoints.restore(manager, template)
    assert type(restored) is checkpoints.RunState
    assert_same(restored, state)
    assert len(dataset) == 12  # the template needs the labels, not the clips


def test_the_last_ones_are_kept_and_the_newest_is_taken(tmp_path):
    def state(step, value):
        return checkpoints.RunState(
            {"x": np.float32([value])}, {}, np.asarray(step), np.asarray(8 * step)
        )

    with checkpoints.manager(tmp_path, keep=2) as manager:
        for step in (1, 2, 3):
            checkpoints.save(manager, state(step, step))
        checkpoints.save(manager, state(3, -1))  # a step that is there already
        manager.wait_until_finished()
        assert sorted(manager.all_steps()) == [2, 3]
        assert_same(checkpoints.restore(manager, state(0, 0)), state(3, 3))


@pytest.mark.parametrize("variant", config_lib.VARIANTS)
def test_parameters_come_back_from_a_workdir_alone(run_of, variant):
    workdir = run_of(variant)
    config, _ = config_lib.read(workdir)
    with checkpoints.manager(workdir) as manager:
        run = checkpoints.restore(manager, training.state_template(config))
    params, step = checkpoints.restore_params(workdir, model.params_template(config))
    assert step == int(run.step) == config.num_steps
    assert_same(params, {"head": run.head.params, "tail": run.tail.params})


def test_a_run_without_a_checkpoint_says_so(tiny, tmp_path):
    config = tiny(num_labels=8)
    config_lib.write(config, ("a",) * 8, tmp_path)
    with pytest.raises(ConfigError, match=f"{tmp_path} holds no checkpoint yet: let `python -m"):
        checkpoints.restore_params(tmp_path, model.params_template(config))
