"""Kinds of motion: an object carries the evidence along, which is joined with what a label says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowvid.conditioning.unet import hindsight, kinds, memory
from flowvid.conditioning.unet.dynamics import CELL

SIZE, FACTOR, NUMBERS = 16, 2, 3
next_evidence = jax.jit(kinds.next_evidence, static_argnums=4)
believed = jax.jit(kinds.believed)


def track(changes, evidence, moved=(0.0, 0.0)):
    """A track where everything has moved alike, twice, with changes and evidence of each kind."""
    first = kinds.first_track(jnp.zeros((1, SIZE, SIZE, 3)), len(evidence), NUMBERS)
    like = lambda part, values: jnp.broadcast_to(jnp.array(values, jnp.float32), part.shape)  # noqa: E731
    return first._replace(
        moved=like(first.moved, 3 * moved),
        changes=like(first.changes, np.ravel(changes)),
        evidence=like(first.evidence, evidence),
    )


def seen(count):
    return jnp.full((1, 1, 1, 1), float(count))


def everywhere(step):
    return jnp.broadcast_to(jnp.array(step, jnp.float32), (1, SIZE, SIZE, 2))


MASK = jnp.ones((1, SIZE, SIZE, 1))


def test_nothing_is_known_at_first():
    first = kinds.first_track(jnp.zeros((2, SIZE, SIZE, 3)), 4, NUMBERS)
    assert all(not np.any(part) for part in first)
    assert first.evidence.shape == (2, SIZE // CELL, SIZE // CELL, 4)
    assert first.changes.shape[-1] == 8
    assert first.objects.shape[-1] == NUMBERS
    assert kinds.first_track(jnp.zeros((1, 7, 9, 3)), 1, 1).evidence.shape == (1, 4, 5, 1)


def test_a_prior_is_a_distribution_over_kinds_for_each_label():
    vectors = jax.random.normal(jax.random.key(0), (200, 16))
    prior = kinds.Prior(4)
    params = jax.jit(prior.init)(jax.random.key(1), vectors)
    found = np.exp(prior.apply(params, vectors))
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    # Labels begin with different kinds, none of which is excluded.
    assert set(np.argmax(found, -1)) == set(range(4))
    assert 0.6 < np.median(found.max(-1)) < 0.99


def test_evidence_is_against_the_kinds_whose_prediction_was_off():
    before = track([(0, 0), (0.5, 0), (0, 9)], evidence=(1.0, 0.0, 0.0), moved=(1, 0))
    # It went on as the first kind does. The second was off by half a pixel, the third by more
    # than can be told.
    found = next_evidence(before, everywhere((1, 0)), MASK, seen(9), FACTOR)
    least, scale, most = 1e-3 / kinds._SCALE, kinds._SCALE, kinds._MOST
    absolute = np.array([kinds._KEPT + least, min(0.5 / scale, most), most])
    np.testing.assert_allclose(found[0, 4, 4], absolute - absolute.min(), atol=0.02)
    # At twice the resolution, pixels are half as large.
    larger = next_evidence(before, everywhere((1.1, 0)), MASK, seen(9), 2 * FACTOR)
    absolute = np.array([kinds._KEPT + 0.05 / scale, min(0.2 / scale, most), most])
    np.testing.assert_allclose(larger[0, 4, 4], absolute - absolute.min(), atol=0.02)


@pytest.mark.parametrize(("count", "tells"), [(2, False), (3, False), (4, True)])
def test_the_first_frames_tell_nothing(count, tells):
    before = track([(0, 0), (1, 0)], evidence=(0.0, 0.0))
    found = next_evidence(before, everywhere((0, 0)), MASK, seen(count), FACTOR)
    assert bool(np.any(found)) == tells


def test_evidence_moves_along_with_its_object():
    """Two objects cross the frame, one above the other; each keeps its own evidence."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    before = track([(0, 0), (0, 0)], evidence=(0.0, 0.0), moved=(0, 2))
    upper = jnp.asarray(rows < 8)[None, ..., None]
    evidence = jnp.asarray(np.where(upper, np.float32([4.0, 0.0]), np.float32([0.0, 4.0])))
    on_object = jnp.asarray(abs(columns - 4) <= 2)[None, ..., None]
    before = before._replace(evidence=kinds.thin(evidence * on_object))
    mask = jnp.asarray((abs(columns - 6) <= 2) & (abs(rows - 7.5) > 4), jnp.float32)
    found = next_evidence(before, everywhere((0, 2)), mask[None, ..., None], seen(9), 1)
    np.testing.assert_allclose(found[0, 1, 3], [4 * kinds._KEPT, 0], atol=0.2)
    np.testing.assert_allclose(found[0, 6, 3], [0, 4 * kinds._KEPT], atol=0.2)


def test_belief_is_the_product_of_evidence_and_prior():
    own = track([(1, 0), (-1, 0)], evidence=(0.0, 3.0))
    log_prior = jnp.log(jnp.array([[0.1, 0.9]]))
    posterior = np.array([0.1, 0.9 * np.exp(-3)])
    posterior /= posterior.sum()
    np.testing.assert_allclose(
        believed(own, log_prior)[0, 2, 2], [posterior[0] - posterior[1], 0], rtol=1e-5
    )
    alone = 1 / (1 + np.exp(-3))
    np.testing.assert_allclose(believed(own, None)[0, 2, 2], [2 * alone - 1, 0], rtol=1e-5)


def test_the_kind_of_a_clip_is_told_by_what_moves_in_its_last_frame():
    state = hindsight.State(
        memory.first_memory(jnp.zeros((1, SIZE, SIZE, 3))),
        track([(0, 0), (0, 0)], evidence=(9.0, 0.0)),
        track([(0, 0), (0, 0)], evidence=(9.0, 0.0)),
    )
    at = (slice(None), slice(2, 4), slice(2, 4))
    moving = state.track._replace(
        mask=MASK, evidence=state.track.evidence.at[at].set(jnp.array([0.0, 2.0]))
    )
    last = jnp.zeros((1, SIZE, SIZE, 3)).at[:, 4:8, 4:8].set(0.4)
    of_clips = jax.jit(hindsight._kinds_of_clips)
    found = of_clips(last, state._replace(track=moving), None)
    np.testing.assert_allclose(found, [[1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))]], rtol=1e-3)
    told = of_clips(last, state._replace(track=moving), jnp.log(jnp.array([[0.01, 0.99]])))
    assert float(told[0, 1]) > 0.9
