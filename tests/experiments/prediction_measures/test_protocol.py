"""The best of several samples and means over clips, against loops."""

import numpy as np
import pytest
from scipy import stats

from experiments.prediction_measures import protocol

VALUES = np.random.default_rng(0).normal(size=(5, 7, 4))


@pytest.mark.parametrize("lower", [False, True])
def test_the_best_sample_has_the_best_mean_over_frames(lower):
    chosen = []
    for clip in VALUES:
        means = [sum(sample) / len(sample) for sample in clip]
        chosen.append(means.index(min(means) if lower else max(means)))
    np.testing.assert_array_equal(protocol.best_samples(VALUES, lower), chosen)
    found = protocol.summarise(VALUES, lower)
    whole = np.array([clip[number] for clip, number in zip(VALUES, chosen, strict=True)])
    for key, values in (("best", whole), ("mean", VALUES.mean(axis=1))):
        np.testing.assert_allclose(found[key]["mean"], values.mean(axis=0))
        np.testing.assert_allclose(found[key]["stderr"], stats.sem(values))
        overall = found[key]["all_frames"]
        assert overall["mean"] == pytest.approx(values.mean())
        assert overall["stderr"] == pytest.approx(stats.sem(values.mean(axis=1)))


def test_it_is_not_chosen_anew_at_each_frame():
    values = np.array([[[1.0, 0.0], [0.0, 2.0]]])
    assert protocol.summarise(values, lower_is_better=False)["best"]["mean"] == [0, 2]


def test_a_single_clip_has_no_standard_error():
    found = protocol.summarise(VALUES[:1], lower_is_better=False)["best"]
    assert found["stderr"] is None
    assert found["all_frames"]["stderr"] is None
