"""Arguments that make no sample are refused by one error that names them, whatever their type."""

import functools
import inspect

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import tiny

from flowvid.conditioning.sees import Sees
from flowvid.config.variants import VARIANTS
from flowvid.errors import ConfigError, DataError, whole_number
from flowvid.video import sampling
from flowvid.video.model import Model

NAMES = ("bounce", "fall", "roll")
FRAMES = np.zeros((1, 2, 8, 8, 3), np.uint8)
FROM_0 = "use a finite number from 0 on"
SEEDS = "use a whole number from 0 to 4294967295"


@pytest.fixture(scope="module")
def model():
    return Model(tiny("state_label"), NAMES, params={}, step=0, averaged=False)


def unchecked(method):
    """The method without the tests' check of types, which users do not have."""
    return inspect.unwrap(method)


@pytest.fixture
def sample(model, monkeypatch):
    """`model.sample` without the tests' check of types."""
    monkeypatch.setattr(Model, "stream", unchecked(Model.stream))
    return functools.partial(unchecked(Model.sample), model)


REFUSED = {
    "no video": ({"num_videos": 0}, "num_videos=0: use a whole number from 1 on"),
    "fewer than none": ({"num_videos": -3}, "num_videos=-3: use a whole number from 1 on"),
    "half a video": ({"num_videos": 2.5}, "num_videos=2.5: use a whole number from 1 on"),
    "videos in words": ({"num_videos": "2"}, "num_videos='2': use a whole number from 1 on"),
    "no frame": ({"num_frames": 0}, "num_frames=0: use a whole number from 1 on"),
    "half a frame": ({"num_frames": 2.5}, "num_frames=2.5: use a whole number from 1 on"),
    "half a seed": ({"seed": 1.5}, f"seed=1.5: {SEEDS}"),
    "no seed": ({"seed": None}, f"seed=None: {SEEDS}"),
    "a seed below 0": ({"seed": -1}, f"seed=-1: {SEEDS}"),
    "a large seed": ({"seed": 2**32}, f"seed=4294967296: {SEEDS}"),
    "not a number": ({"temperature": float("nan")}, f"temperature=nan: {FROM_0}"),
    "infinite": ({"temperature": float("inf")}, f"temperature=inf: {FROM_0}"),
    "cold": ({"temperature": -0.5}, f"temperature=-0.5: {FROM_0}"),
    "warmth in words": ({"temperature": "1"}, f"temperature='1': {FROM_0}"),
    "temperatures": (
        {"temperature": np.ones((2, 2))},
        r"temperature=array(?s:.*): use a finite number from 0 on",
    ),
    "labels of nothing": ({"labels": [0]}, "labels are those of first_frames: use label"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_of_sample_are_refused_by_name(sample, case):
    asked, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        sample(**asked)


@pytest.mark.parametrize("labels", [None, [3], [-1], [0.0], [0, 1], "a"])
def test_labels_that_the_tail_sees_are_indices(sample, monkeypatch, labels):
    seeing = VARIANTS["state_label"]._replace(tail=Sees(label=True, previous=True))
    monkeypatch.setitem(VARIANTS, "state_label", seeing)
    message = "give 1 of them, one per video, whole numbers from 0 to 2"
    with pytest.raises(ConfigError, match=message):
        sample(first_frames=FRAMES, labels=labels)


@pytest.mark.parametrize("label", [0, 7, b"fall"])
def test_a_label_is_given_by_its_name(sample, label):
    with pytest.raises(DataError, match=f"label={label!r} is not a name: use .* as 'bounce'"):
        sample(1, label)


@pytest.mark.parametrize("seed", [1.5, -1, 2**32])
def test_the_seed_of_a_density_is_a_whole_number(model, seed):
    with pytest.raises(ConfigError, match=f"seed={seed}: {SEEDS}"):
        unchecked(Model.log_prob)(model, FRAMES, [0], seed)


def test_numbers_of_numpy_and_jax_are_numbers(sample, monkeypatch):
    """As are whole numbers for the temperature."""
    calls = []
    monkeypatch.setattr(sampling, "frames", lambda *given: calls.append(given))
    monkeypatch.setattr(sampling, "collected", lambda frames: frames)
    for temperature in (2, np.float32(2), jnp.float32(2)):
        sample(
            np.int64(3),
            num_frames=jnp.int32(4),
            temperature=temperature,
            seed=np.uint32(2**32 - 1),
        )
        _, _, keys, labels, how, num_frames, _ = calls.pop()
        assert (len(keys), len(labels), num_frames) == (3, 3, 4)
        assert [float(how.head.temperature), float(how.tail.temperature)] == [2.0, 2.0]
        assert type(num_frames) is int  # a new type would be compiled anew


def test_bounds_are_part_of_the_range():
    assert [whole_number("n", n, 2, 4) for n in (2, 3, 4)] == [2, 3, 4]
    for n in (1, 5):
        with pytest.raises(ConfigError, match=f"^n={n}: use a whole number from 2 to 4\\.$"):
            whole_number("n", n, 2, 4)
