"""Whole videos whose later frames follow a latent label: shares, and densities that sum to one."""

import numpy as np
import pytest

from flowvid.evaluation.latent_labels import estimate_shares, log2_p_of_videos

LABELS, OUTCOMES = 3, 6


def drawn(rng, shares, later, count):
    """Labels and later frames, numbers of outcomes, of a model whose shares are known."""
    labels = rng.integers(0, LABELS, count)
    told = np.array([rng.choice(LABELS, p=shares[label]) for label in labels])
    return labels, np.array([rng.choice(OUTCOMES, p=later[k]) for k in told])


@pytest.fixture
def later():
    """p(later frames | told), [K, outcomes]."""
    return np.random.default_rng(0).dirichlet(np.full(OUTCOMES, 0.4), LABELS)


def test_shares_are_those_that_clips_were_drawn_with(later):
    shares = np.array([[0.9, 0.05, 0.05], [0.1, 0.2, 0.7], [0.5, 0.5, 0.0]])
    labels, outcomes = drawn(np.random.default_rng(1), shares, later, 20_000)
    found = estimate_shares(np.log2(later[:, outcomes].T), labels)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found, shares, atol=0.05)


def test_a_label_without_clips_keeps_the_prior(later):
    found = estimate_shares(np.log2(later[:, [0, 1, 2]].T), np.zeros(3, int))
    for label in (1, 2):
        expected = np.full(LABELS, 1 / 6) + np.eye(LABELS)[label] / 2
        np.testing.assert_allclose(found[label], expected)
    assert np.abs(found[0] - [2 / 3, 1 / 6, 1 / 6]).max() > 0.01


def test_masses_of_all_videos_sum_to_one_for_every_label(later):
    """There are two first frames and six continuations of each."""
    rng = np.random.default_rng(2)
    first = rng.dirichlet(np.ones(2), LABELS)
    shares = rng.dirichlet(np.ones(LABELS), LABELS)
    videos = [(frame, outcome) for frame in range(2) for outcome in range(OUTCOMES)]
    of_first = np.log2([first[:, frame] for frame, _ in videos])
    told_own = of_first + np.log2([later[:, outcome] for _, outcome in videos])
    found = log2_p_of_videos(of_first, told_own, shares)
    np.testing.assert_allclose(np.exp2(found).sum(axis=0), np.ones(LABELS))
    by_hand = first[1, 0] * (shares[1] @ later[:, 4])
    np.testing.assert_allclose(np.exp2(found[4, 1]), by_hand)


def test_labels_that_tell_nothing_of_later_frames_are_not_below_chance(later):
    """The tail knows less of their clips when it is told the label than when it is told another."""
    shares = np.array([[0.0, 0.5, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    labels, outcomes = drawn(np.random.default_rng(3), shares, later, 2000)
    told_own = np.log2(later[:, outcomes].T)
    found = estimate_shares(told_own, labels)
    no_frame = np.zeros((2000, LABELS))
    latent = log2_p_of_videos(no_frame, told_own, found)
    of_label_0 = labels == 0
    assert latent[of_label_0, 0].mean() > told_own[of_label_0, 0].mean() + 0.3
