"""What a trained GAN refuses to sample, and where it is loaded from."""

import inspect

import pytest
from gan_cases import tiny

from flowvid.errors import ConfigError, DataError
from flowvid.gan import trained, training
from flowvid.gan.trained import Gan

pytest_plugins = ["system_fixtures"]

NAMES = ("bounce", "fall")
REFUSED = {
    "no video": ((0,), {}, "num_videos=0: use a whole number from 1 on"),
    "half a video": ((2.5,), {}, "num_videos=2.5: use a whole number from 1 on"),
    "half a seed": ((1,), {"seed": 1.5}, "seed=1.5: use a whole number from 0 to 4294967295"),
    "a large seed": ((1,), {"seed": 2**32}, "seed=4294967296: use a whole number from 0 to"),
}


@pytest.fixture(scope="module")
def gan():
    return Gan(tiny(labels=True), NAMES, params={}, step=0)


# Without the tests' check of types, which users do not have.
sample = inspect.unwrap(Gan.sample)


@pytest.mark.parametrize("case", REFUSED)
def test_numbers_that_make_no_sample_are_refused(gan, case):
    args, more, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        sample(gan, *args, **more)


def test_a_label_is_given_by_its_name(gan):
    with pytest.raises(DataError, match="label=0 is not a name: use one such as 'bounce'"):
        sample(gan, 1, 0)


def test_a_run_may_be_in_the_home_folder(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    training.train(tiny(data_dir=str(data_dir), num_steps=0), "~/run")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    assert trained.load("~/run").step == 0
