"""Scores: each video counts once, noise is fixed, and interrupted work is resumed."""

import dataclasses

import numpy as np
import pytest
from helpers import assert_same

from flowvid.config.metrics import METRICS
from flowvid.evaluation import partial_results, scoring

pytest_plugins = ["system_fixtures"]

FIVE = METRICS["5-bit"]


def test_each_video_counts_once_whatever_the_batches(score):
    by_four, by_two = score(batch_size=4), score(batch_size=2)
    assert by_four.head.shape == (5,)
    assert by_four.tail.shape == (5, 4)
    assert len(np.unique(by_four.head)) == 5
    for a, b in zip(by_four, by_two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert_same(score(batch_size=3), by_four)  # two devices have equal shares
    for a, b in zip(by_four, score(num_videos=3), strict=True):
        np.testing.assert_array_equal(a[:3], b)


def test_noise_is_fixed_by_the_seed_and_the_draw(score):
    first = score(seed=0)
    assert_same(first, score(seed=0, draw=0))
    for other in (score(seed=1), score(draw=1)):
        assert not np.any(first.head == other.head)
        assert not np.any(first.tail == other.tail)


# Interrupted evaluations.


@pytest.fixture
def at_once(monkeypatch):
    """Results are kept after every batch."""
    monkeypatch.setattr(scoring, "_SAVE_EVERY", 0.0)


class Asked:
    """Stops scoring before a batch, and counts how often it was asked."""

    def __init__(self, stop_at=None):
        self.stop_at, self.times = stop_at, 0

    def __call__(self):
        """Whether to stop."""
        self.times += 1
        return self.times - 1 == self.stop_at


@pytest.mark.usefixtures("at_once")
def test_an_interrupted_evaluation_is_resumed(score, tmp_path):
    kept = partial_results.PartialResults(tmp_path / "kept", {"of": "this"})
    assert score(batch_size=2, kept=kept, stopped=Asked(stop_at=2)) is None
    rest = Asked()
    again = partial_results.PartialResults(tmp_path / "kept", {"of": "this"})
    assert_same(score(batch_size=2, kept=again, stopped=rest), score(batch_size=2))
    assert rest.times == 1  # of three batches
    finished = Asked()
    assert_same(score(batch_size=2, kept=again, stopped=finished), score(batch_size=2))
    assert finished.times == 0


@pytest.mark.usefixtures("at_once")
def test_results_of_another_identity_are_not_used(score, tmp_path):
    kept = partial_results.PartialResults(tmp_path, {"seed": 0})
    score(batch_size=2, kept=kept)
    other = partial_results.PartialResults(tmp_path, {"seed": 1})
    assert other.read() == {}
    kept.path.rename(other.path)  # as if the names collided
    assert other.read() == {}


@pytest.mark.usefixtures("at_once")
def test_a_damaged_file_is_ignored(score, tmp_path):
    kept = partial_results.PartialResults(tmp_path, {})
    score(batch_size=2, kept=kept, stopped=Asked(stop_at=1))
    kept.path.write_bytes(kept.path.read_bytes()[:100])
    assert_same(score(batch_size=2, kept=kept), score(batch_size=2))


def test_results_of_another_version_are_not_used(tmp_path, monkeypatch):
    partial_results.PartialResults(tmp_path, {}).write({"bits": np.arange(3.0)})
    assert len(partial_results.PartialResults(tmp_path, {}).read()["bits"]) == 3
    changed = partial_results.VERSIONS | {"libavcodec": [1, 2, 3]}
    monkeypatch.setattr(partial_results, "VERSIONS", changed)
    assert partial_results.PartialResults(tmp_path, {}).read() == {}


def test_datasets_of_one_name_and_length_are_told_apart(splits):
    train, validation = splits
    known = partial_results.identify_dataset(validation)
    assert known == partial_results.identify_dataset(dataclasses.replace(validation))
    records = [validation.source[i] for i in range(len(validation))]
    other_end = [*records[:-1], train.source[0]]
    renamed = tuple(name + "s" for name in validation.label_names)
    for changes in ({"source": records[::-1]}, {"source": other_end}, {"label_names": renamed}):
        other = dataclasses.replace(validation, **changes)
        assert partial_results.identify_dataset(other) != known


def test_the_standard_error_by_hand():
    # Deviations -3, -2, 0, 5: variance 38 / 3, over 4 videos.
    bits = np.array([1.0, 2.0, 4.0, 9.0])
    assert scoring.standard_error(bits) == pytest.approx((38 / 3 / 4) ** 0.5)
    assert scoring.standard_error(bits[:1]) is None
