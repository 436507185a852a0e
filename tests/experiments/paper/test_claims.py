"""The sentences about the paper's claims, from made-up numbers."""

import numpy as np

from experiments.paper.claims import claims
from experiments.paper.seed_statistics import ONE_SEED, summarize


def made_up(tail=0.0, head=0.0, labels=0.0, copying=0.0, seeds=3):
    """Returns results whose differences have these means and an error of about 0.1."""
    pattern = 0.1 * np.array([[0.0], [1.0], [-1.0]])[:seeds] + 0.01 * np.arange(-10, 11)
    entry = lambda mean: summarize(mean + pattern)  # noqa: E731
    rows = ("init", "prev_frame", "state", "state_label")
    bits = dict(zip(rows, (6.0, 2.0, 2.0, 2.5), strict=True))
    label = {"accuracy": 0.5, "accuracy_stderr": 0.1, "chance": 0.125, "most_bits": 2.97}
    return {
        "own_metric": "5-bit",
        "rows": {r: {"5-bit": {"head": entry(b), "tail": entry(b)}} for r, b in bits.items()},
        "differences": {"tail": {"5-bit": entry(tail)}, "head": {"5-bit": entry(head)}},
        "gain_over_init": {
            r: {part: entry(6.0 - bits[r]) for part in ("head", "tail")} for r in rows[1:]
        },
        "labels": {"bits_per_video": entry(labels), "runs": [label]},
        "against_copying": {
            "logistic": {row: entry(copying) for row in bits},
            "histogram": {row: entry(-1.0) for row in bits},
        },
    }


def test_claims_hold_only_beyond_the_error_over_seeds():
    over_init, state, head, labels, copying = claims(made_up(copying=-0.5))
    assert "as in the paper: yes; the smallest gain is 3.500" in over_init
    assert ": not certain; " in state
    assert ": not certain; " in head
    assert ": no use has been found; label bits are 0.000" in labels
    assert "at most H(y) = 2.97" in labels
    assert copying.endswith(": none.")
    _, state, head, labels, copying = claims(made_up(-0.5, 0.5, 0.5, 0.5))
    assert ": yes; " in state
    assert ": yes; " in head
    assert ": no; " in labels
    assert copying.endswith(": prev_frame (logistic), state (logistic), state_label (logistic).")
    _, state, head, *_ = claims(made_up(0.5, -0.5))
    assert ": no; " in state
    assert ": no; " in head
    # Beyond two standard errors over videos, but not beyond the spread over three seeds.
    _, state, head, labels, copying = claims(made_up(-0.2, 0.2, 0.2, 0.2))
    assert ": not certain; " in state
    assert ": not certain; " in head
    assert ": no use has been found; " in labels
    assert "none; on average, but not for certain: prev_frame (logistic)" in copying


def test_one_seed_decides_nothing():
    over_init, state, head, labels, copying = claims(made_up(-5.0, 5.0, 5.0, 5.0, seeds=1))
    for line in (over_init, state, head):
        assert f"as in the paper: {ONE_SEED}; " in line
    assert "as in the paper: not known (one seed" in labels
    assert "none; in the one seed that there is: prev_frame (logistic)" in copying


def test_one_variant_that_init_beats_contradicts_the_claim():
    results = made_up()
    results["gain_over_init"]["state"]["tail"] = summarize(
        np.array([[-1.0, -0.99], [-1.1, -1.09], [-1.2, -1.19]])
    )
    assert "as in the paper: no; the smallest gain is -1.095" in claims(results)[0]
