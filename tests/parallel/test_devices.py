"""Functions on all devices: what they return, and when they are compiled."""

import jax
import numpy as np
import pytest

from flowvid.parallel import compilation, devices


@pytest.fixture
def lowered(monkeypatch):
    """The programs that were given to the compiler."""
    given = []

    def compiled(program):
        given.append(program)
        return compilation.compiled(program)

    monkeypatch.setattr(devices, "compiled", compiled)
    return given


def test_it_is_compiled_once_for_each_shape_and_type(lowered):
    mean = devices.on_devices(lambda tree: devices.mean_over_devices(tree["x"]))
    halves = np.arange(6, dtype=np.float32).reshape(2, 3)
    for x in (halves, 2 * halves, halves[:, :2], halves.astype(np.float16), halves + 1):
        found = mean({"x": x})
        np.testing.assert_array_equal(found, np.broadcast_to(x.mean(axis=0), x.shape))
        assert found.dtype == x.dtype
    assert len(lowered) == 3


def test_donated_arguments_are_gone():
    double = devices.on_devices(lambda x: 2 * x, donate=(0,))
    x = devices.replicate(np.ones(3, np.float32))
    np.testing.assert_array_equal(double(x), np.full((2, 3), 2.0))
    assert x.is_deleted()


def test_with_several_processes_it_is_left_to_pmap(lowered, monkeypatch):
    double = devices.on_devices(lambda x: 2 * x)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    np.testing.assert_array_equal(double(np.ones((2, 1))), np.full((2, 1), 2.0))
    assert not lowered
