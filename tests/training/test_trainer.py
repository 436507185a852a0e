"""The trainer prefetches batches to the devices and compiles steps before the first one."""

import jax
import numpy as np
import pytest
from helpers import assert_same, drawn_params

from flowvid.config.making import preset_config
from flowvid.parallel import devices
from flowvid.training import trainer

BATCHES = 5


@pytest.fixture(scope="module")
def config():
    return preset_config(
        "paper_small",
        levels=1,
        head_steps=1,
        tail_steps=1,
        width=8,
        image_size=8,
        num_frames=3,
        batch_size=4,
        tail_frames=1,
        warmup_steps=0,
    )


@pytest.fixture
def batches():
    """An iterator over batches of `flowvid.data` with clips [4, 3, 8, 8, 3]."""
    rng = np.random.default_rng(0)

    def batch(number):
        return {
            "video": rng.integers(0, 256, (4, 3, 8, 8, 3), np.uint8),
            "label": np.full(4, number, np.int32),
            "index": np.arange(4 * number, 4 * number + 4, dtype=np.uint32),
        }

    return map(batch, range(BATCHES))


@pytest.fixture
def run(config):
    """A state before the first step with random parameters."""
    made = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x,
        trainer.state_template(config),
    )
    return made._replace(
        head=made.head._replace(params=drawn_params(made.head.params)),
        tail=made.tail._replace(params=drawn_params(made.tail.params)),
    )


def test_batches_come_to_the_devices_whole_and_in_order(batches):
    given = list(batches)
    found = list(trainer.to_devices(iter(given)))
    assert len(found) == BATCHES
    for batch, expected in zip(found, given, strict=True):
        for array, name in zip(batch, ("video", "label", "index"), strict=True):
            assert isinstance(array, jax.Array)
            assert array.shape == (2, 2, *expected[name].shape[1:])
            assert array.devices() == set(jax.local_devices())
            assert array.dtype == expected[name].dtype
            np.testing.assert_array_equal(np.reshape(array, expected[name].shape), expected[name])


def test_batches_are_sent_before_they_are_asked_for(batches):
    read = []
    ahead = trainer.to_devices(read.append(batch) or batch for batch in batches)
    next(ahead)
    assert len(read) == 2
    next(ahead)
    assert len(read) == 3


def test_a_step_compiled_beforehand_gives_the_same_bits(config, run, batches, monkeypatch):
    compiled, programs = devices.compiled, []
    monkeypatch.setattr(
        devices, "compiled", lambda lowered: programs.append(lowered) or compiled(lowered)
    )
    beforehand, at_once = trainer.Trainer(config, run), trainer.Trainer(config, run)
    programs.clear()  # those that copied the run to the devices
    for number, name in enumerate(config.models, start=1):
        beforehand.compile(name)
        assert len(programs) == number
    first, second = list(trainer.to_devices(batches))[:2]
    ours = [beforehand.take(batch) for batch in (first, second)]
    assert len(programs) == len(config.models)  # those that were compiled beforehand are used
    assert_same(ours, [at_once.take(batch) for batch in (first, second)])
    assert len(programs) == 2 * len(config.models)
    assert_same(beforehand.on_host(), at_once.on_host())
    moved = jax.tree.map(lambda a, b: np.any(a != b), at_once.raw_params()["tail"], run.tail.params)
    assert any(jax.tree.leaves(moved))
