"""Fixtures of the tests of evaluation: the tiny dataset's splits, a trained model, its scores."""

import pytest

import flowvid
from flowvid.config.metrics import METRICS
from flowvid.evaluation import scoring
from flowvid.parallel.devices import replicate
from flowvid.training import loop


@pytest.fixture(scope="module")
def splits(tiny):
    """The training and the validation split."""
    return loop.prepare(tiny())[1:]


@pytest.fixture(scope="module")
def model(run_of):
    """A trained model of the variant state_label."""
    return flowvid.load(run_of("state_label"))


@pytest.fixture(scope="module")
def score(model, splits):
    """A function that scores the validation split under the 5-bit metric."""
    compiled = scoring.evaluator(model.config, METRICS["5-bit"])
    params = replicate(model.params)

    def run(batch_size=4, num_videos=5, seed=0, draw=0, **options):
        noise = scoring.Noise(seed, draw=draw)
        return scoring.score(
            compiled, params, noise, splits[1], batch_size, num_videos, "scoring", **options
        )

    return run
