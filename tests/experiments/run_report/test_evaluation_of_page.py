"""The evaluation that the report page shows is the one that it says, and no other is replaced."""

import json

import pytest

import flowvid
from experiments.run_report import evaluation
from experiments.running.finished_runs import load_split
from flowvid.config.metrics import METRICS
from flowvid.evaluation import evaluation_report

pytest_plugins = ["system_fixtures"]


@pytest.fixture(scope="module")
def run(run_of):
    """A model, and the splits of its data."""
    model = flowvid.load(run_of("prev_frame"))
    return model, load_split(model.config, "train"), load_split(model.config, "validation")


def report_of(run, **changes):
    """A made-up report of the run's evaluation."""
    held_out = run[2]
    entry = {"bits_per_dim": 1.0, "stderr": 0.1}
    of_metric = {
        "head": entry,
        "tail": entry | {"per_frame": [1.0] * 4},
        "baselines": {},
        "head_baselines": {},
        "importance_weighted": None,
    }
    return {
        "variant": "prev_frame",
        "step": 4,
        "checkpoint": "last",
        "checkpoint_chosen_on": None,
        "averaged": False,
        "dataset": "moving_shapes",
        "split": "validation",
        "num_videos": len(held_out),
        "seed": 0,
        "metrics": dict.fromkeys(METRICS, of_metric),
        "of_bins": False,
        "labels": None,
        "video_labels": None,
        "latent_labels": None,
    } | changes


@pytest.fixture
def evaluated(monkeypatch):
    """Evaluating takes no time and is noted."""
    calls = []

    def evaluate(model, train, split, *, metrics, num_videos, seed, noise_draws, keep_in):
        calls.append((model.step, split.name, list(metrics), num_videos, seed))
        made = report_of((model, train, split), note="made now")
        return evaluation_report.Evaluation(made, {})

    monkeypatch.setattr(evaluation_report, "evaluate", evaluate)
    return calls


def write(folder, report):
    (folder / "evaluation.json").write_text(json.dumps(report))


def test_a_saved_evaluation_of_all_the_same_is_shown(run, evaluated, tmp_path):
    write(tmp_path, report_of(run, note="saved"))
    assert evaluation.evaluation_of(tmp_path, *run)["note"] == "saved"
    assert not evaluated


@pytest.mark.parametrize(
    "changes",
    [
        {"variant": "state"},
        {"step": 2},
        {"checkpoint": "best"},
        {"averaged": True},
        {"dataset": "moving_digits"},
        {"split": "train"},
        {"num_videos": 3},
        {"seed": 1},
        {"metrics": {"5-bit": {}}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_one_of_something_else_is_made_again_beside_it(changes, run, evaluated, tmp_path):
    other = report_of(run, **changes)
    write(tmp_path, other)
    for _ in range(2):  # the page's own one is kept
        assert evaluation.evaluation_of(tmp_path, *run)["note"] == "made now"
    assert evaluated == [(4, "moving_shapes", list(METRICS), 5, 0)]
    assert json.loads((tmp_path / "evaluation.json").read_text()) == other


def test_one_of_another_version_is_made_again(run, evaluated, tmp_path):
    """Its report lacks what the page shows."""
    write(tmp_path, report_of(run, metrics={name: {} for name in METRICS}))
    assert evaluation.evaluation_of(tmp_path, *run)["note"] == "made now"


def test_the_first_one_is_written_where_flowvid_evaluate_writes_it(run, evaluated, tmp_path):
    assert evaluation.evaluation_of(tmp_path, *run)["note"] == "made now"
    assert json.loads((tmp_path / "evaluation.json").read_text())["note"] == "made now"
    assert len(evaluated) == 1
