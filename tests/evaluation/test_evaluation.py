"""Evaluation: each video counts once, noise is fixed, long work goes on, labels are measured."""

import json
import math
import re

import jax
import numpy as np
import pytest
from helpers import DIMS, assert_same

import flowvid
from flowvid.config.metrics import METRICS
from flowvid.data import datasets
from flowvid.errors import TrainingError
from flowvid.evaluation import (
    codecs,
    evaluation_report,
    label_information,
    partial_results,
    scoring,
)
from flowvid.parallel.devices import replicate
from flowvid.training import loop

pytest_plugins = ["system_fixtures"]

FIVE = METRICS["5-bit"]
DRAWS = 3


@pytest.fixture(scope="module")
def splits(tiny):
    return loop.prepare(tiny())[1:]


@pytest.fixture(scope="module")
def model(run_of):
    return flowvid.load(run_of("state_label"))


@pytest.fixture(scope="module")
def score(model, splits):
    """A function that scores the validation split."""
    compiled = {seed: scoring.evaluator(model.config, FIVE, seed) for seed in (0, 1)}
    params = replicate(model.params)

    def run(batch_size=4, num_videos=5, seed=0, **options):
        return scoring.score(
            compiled[seed], params, splits[1], batch_size, num_videos, "scoring", **options
        )

    return run


# Scores.


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


# Long evaluations.


@pytest.fixture
def at_once(monkeypatch):
    """What is done is kept after every batch."""
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
def test_what_was_interrupted_goes_on_where_it_was(score, tmp_path):
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
def test_what_is_kept_of_something_else_is_not_taken(score, tmp_path):
    kept = partial_results.PartialResults(tmp_path, {"seed": 0})
    score(batch_size=2, kept=kept)
    other = partial_results.PartialResults(tmp_path, {"seed": 1})
    assert other.read() == {}
    kept.path.rename(other.path)  # as if names could be the same
    assert other.read() == {}


@pytest.mark.usefixtures("at_once")
def test_a_damaged_file_is_done_again(score, tmp_path):
    kept = partial_results.PartialResults(tmp_path, {})
    score(batch_size=2, kept=kept, stopped=Asked(stop_at=1))
    kept.path.write_bytes(kept.path.read_bytes()[:100])
    assert_same(score(batch_size=2, kept=kept), score(batch_size=2))


# Means and bounds.


def test_mean_and_standard_error_over_videos():
    bits = np.array([1.0, 2.0, 4.0, 9.0])
    result = evaluation_report.mean_and_stderr(bits)
    # Deviations -3, -2, 0, 5: variance 38 / 3, over 4 videos.
    assert result == {"bits_per_dim": 4.0, "stderr": pytest.approx(math.sqrt(38 / 3 / 4))}
    assert evaluation_report.mean_and_stderr(bits[:1]) == {"bits_per_dim": 1.0, "stderr": None}


def test_a_likelihood_that_is_not_finite_is_no_result():
    with pytest.raises(TrainingError, match="1 of 3 videos have no finite likelihood"):
        evaluation_report.mean_and_stderr(np.array([1.0, np.nan, 2.0]))


def test_the_importance_weighted_bound_by_hand():
    # Two draws of a frame of 2 dimensions with p = 1/4 and 1/16: their mean is 5/32.
    bits = np.array([[1.0], [2.0]])
    bound = evaluation_report.importance_weighted(bits, 2)
    np.testing.assert_allclose(bound, [-math.log2(5 / 32) / 2])
    np.testing.assert_allclose(evaluation_report.importance_weighted(bits[:1], 2), [1.0])


def test_the_bound_of_many_draws_is_the_probability_of_the_bin():
    """With a density known in closed form: x of one dimension, p(x) = 2x on [0, 1), 2-bit bins."""
    x = 0.25 + np.random.default_rng(0).uniform(0, 0.25, (100_000, 1))
    bits = -np.log2(2 * x) + 2
    exact = -math.log2(0.5**2 - 0.25**2)
    assert evaluation_report.importance_weighted(bits, 1)[0] == pytest.approx(exact, abs=2e-3)
    assert bits.mean() > exact + 0.02


# Labels.


def test_label_bits_by_hand():
    log2_p = np.array([[-10.0, -12.0, -11.0, -12.0], [-3.0, -3.0, -3.0, -3.0]])
    bits = label_information.label_bits(log2_p, np.array([0, 2]))
    mean = (2**-10 + 2 * 2**-12 + 2**-11) / 4
    np.testing.assert_allclose(bits, [-10 - math.log2(mean), 0.0], atol=1e-12)
    report = label_information.report(log2_p, np.array([0, 2]), "abcd")
    assert report["bits_per_video"] == pytest.approx(bits.mean())
    assert report["stderr"] == pytest.approx(abs(bits[0]) / 2)
    assert (report["num_labels"], report["most_bits"]) == (4, 2.0)
    assert (report["accuracy"], report["accuracy_stderr"], report["chance"]) == (0.5, 0.5, 0.5)
    one = {"bits_per_video": pytest.approx(bits[0]), "stderr": None, "videos": 1}
    assert report["per_label"] == {"a": one, "c": one | {"bits_per_video": 0.0}}


def test_label_bits_reach_the_entropy_of_the_labels_and_no_more():
    rng = np.random.default_rng(0)
    own = rng.integers(0, 8, 500)
    known = np.where(np.arange(8) == own[:, None], 0.0, -1000.0)
    assert label_information.report(known, own, "abcdefgh")["bits_per_video"] == pytest.approx(3.0)
    guessed = rng.normal(scale=2.0, size=(500, 8))  # says nothing of the label
    assert label_information.report(guessed, own, "abcdefgh")["bits_per_video"] < 0


def test_log_probs_of_labels_are_the_heads(model, splits):
    params = replicate(model.params["head"])
    log2_p = scoring.label_log2_probs(model.config, params, splits[1], 5, 0)
    assert log2_p.shape == (5, 8)
    batch = next(datasets.eval_batches(splits[1], batch_size=5))
    for label in (0, 3):
        expected = model.log_prob(batch["video"], np.full(5, label))[:, 0] / math.log(2)
        np.testing.assert_allclose(log2_p[:, label], expected, rtol=1e-5)
    assert len(np.unique(log2_p)) == 40


def test_label_images_are_measured_from_where_the_run_began(tiny, splits, tmp_path):
    config = loop.prepare(tiny(variant="state_label", num_steps=0))[0]
    begun = loop.train(config, tmp_path).head.params["labels"]
    (image,) = jax.tree.leaves(begun)
    np.testing.assert_array_equal(label_information.initial_images(config), image)
    moved = image.copy()
    moved[2] *= 1.5
    distance = label_information.distance(config, {"labels": jax.tree.map(lambda _: moved, begun)})
    rms = lambda x: np.sqrt(np.mean(x.astype(float) ** 2))  # noqa: E731
    assert (distance["least"], distance["most"]) == (0.0, pytest.approx(0.5 * rms(image[2])))
    assert distance["moved"] == pytest.approx(0.5 * rms(image[2]) / np.sqrt(8))
    assert distance["start"] == pytest.approx(rms(image))


# The report.


@pytest.fixture(scope="module")
def evaluated(model, splits, tmp_path_factory):
    """What `evaluate` gives, and the folder that it has kept things in."""
    folder = tmp_path_factory.mktemp("evaluation") / "kept"
    result = evaluation_report.evaluate(
        model,
        *splits,
        metrics=["5-bit", "paper"],
        num_videos=5,
        seed=0,
        noise_draws=DRAWS,
        keep_in=folder,
    )
    return result, folder


@pytest.fixture(scope="module")
def report(evaluated):
    return evaluated[0].report


def test_the_report_has_what_other_tools_read(report, score):
    assert (report["variant"], report["step"], report["num_videos"]) == ("state_label", 4, 5)
    for result in report["metrics"].values():
        assert set(result["head"]) == {"bits_per_dim", "stderr"}
        assert set(result["tail"]) == {"bits_per_dim", "stderr", "per_frame"}
        assert len(result["tail"]["per_frame"]) == 4
        assert result["tail"]["bits_per_dim"] == pytest.approx(
            np.mean(result["tail"]["per_frame"]), rel=1e-5
        )
    five = report["metrics"]["5-bit"]
    scores = score()
    assert five["head"] == evaluation_report.mean_and_stderr(scores.head)
    np.testing.assert_array_equal(five["tail"]["per_frame"], scores.tail.mean(axis=0))
    by_video = scores.tail.mean(axis=1)
    assert five["tail"]["stderr"] == pytest.approx(np.std(by_video, ddof=1) / math.sqrt(5))
    assert set(five["baselines"]) == set(evaluation_report.TITLES)
    assert set(five["head_baselines"]) == {"independent_pixels", "png", "ffv1", "h264_lossless"}
    paper = report["metrics"]["paper"]
    assert (paper["baselines"], paper["head_baselines"]) == ({}, {})
    assert paper["importance_weighted"] is None


def test_the_report_has_the_bound_of_all_draws(report, score):
    scores = [score(draw=draw) for draw in range(DRAWS)]
    bound = report["metrics"]["5-bit"]["importance_weighted"]
    assert bound["draws"] == DRAWS
    for part in ("head", "tail"):
        bits = np.stack([getattr(s, part) for s in scores])
        expected = evaluation_report.importance_weighted(bits, DIMS)
        assert bound[part]["bits_per_dim"] == pytest.approx(expected.mean())
        assert bits.min(axis=0).mean() < bound[part]["bits_per_dim"] < bits.mean()


def test_the_report_has_what_labels_are_worth(report, model, splits, evaluated):
    params = replicate(model.params["head"])
    log2_p = scoring.label_log2_probs(model.config, params, splits[1], 5, 0)
    own = next(datasets.eval_batches(splits[1], batch_size=5))["label"]
    images = label_information.distance(model.config, model.params["head"])
    assert report["labels"] == label_information.report(log2_p, own, model.label_names) | {
        "images": images
    }
    np.testing.assert_array_equal(
        evaluated[0].per_video["labels"], label_information.label_bits(log2_p, own)
    )


def test_there_is_one_number_a_video_for_paired_errors(evaluated, score):
    per_video = evaluated[0].per_video
    np.testing.assert_array_equal(per_video["5-bit/tail"], score().tail)
    np.testing.assert_array_equal(per_video["5-bit/head"], score().head)
    copies = per_video["5-bit/baselines/copy_last_frame_logistic"]
    told = evaluated[0].report["metrics"]["5-bit"]["baselines"]["copy_last_frame_logistic"]
    assert copies.mean() == told["bits_per_dim"]


def test_the_same_evaluation_goes_on_and_another_does_not(evaluated, model, splits, monkeypatch):
    result, folder = evaluated
    asked = []
    original = scoring.over_videos

    def over_videos(result_of, *args, **kwargs):
        def counted(batch):
            asked.append(1)
            return result_of(batch)

        return original(counted, *args, **kwargs)

    monkeypatch.setattr(scoring, "over_videos", over_videos)
    monkeypatch.setattr(codecs, "bits_per_dim", lambda *_: asked.append(1) or (1.0, 1.0))
    options = {"metrics": ["5-bit"], "num_videos": 5, "noise_draws": DRAWS, "keep_in": folder}
    again = evaluation_report.evaluate(model, *splits, seed=0, **options)
    assert not asked
    assert again.report["metrics"]["5-bit"] == result.report["metrics"]["5-bit"]
    evaluation_report.evaluate(model, *splits, seed=1, **options)
    assert asked
    evaluation_report.forget(folder)
    assert not folder.exists()


def test_the_table_names_the_metric_of_each_number(report):
    title, header, *rows = evaluation_report.format_report(report).splitlines()
    assert "state_label, step 4: " in title
    assert "5 videos of moving_shapes validation" in title
    assert re.split(r"\s{2,}", header.strip()) == ["5-bit metric", "paper metric"]
    table = [re.split(r"\s{2,}", row.strip()) for row in rows[:-2]]
    five = report["metrics"]["5-bit"]
    expected = []
    for title, part, baselines in (
        ("first frame (head)", "head", "head_baselines"),
        ("next frames (tail)", "tail", "baselines"),
    ):
        answers = [report["metrics"][metric][part] for metric in ("5-bit", "paper")]
        expected.append([title, *map(shown, answers)])
        expected.append(["the same, 3 noise draws", shown(five["importance_weighted"][part]), "-"])
        expected += [
            [name, shown(five[baselines][key]), "-"]
            for key, name in evaluation_report.TITLES.items()
            if key in five[baselines]
        ]
    assert table == expected
    assert len(table) == 14
    assert re.match(r"labels: -?[\d.]+ ± [\d.]+ bits a video \(at most 3.00 with 8", rows[-2])
    assert rows[-1].startswith("label images: a pixel has moved by ")


def shown(answer):
    return f"{answer['bits_per_dim']:.4f} ± {answer['stderr']:.4f}"


def test_a_single_video_has_no_error_to_show(report):
    one = {"bits_per_dim": 1.25, "stderr": None}
    nothing = {"baselines": {}, "head_baselines": {}, "importance_weighted": None}
    metrics = {"5-bit": {"head": one, "tail": one, **nothing}}
    changed = {**report, "metrics": metrics, "labels": None}
    _, *table = evaluation_report.format_report(changed).splitlines()
    assert [row.split()[-1] for row in table] == ["metric", "1.2500", "1.2500"]


def test_report_and_numbers_of_videos_are_written(evaluated, tmp_path):
    result, _ = evaluated
    path = evaluation_report.write(result, tmp_path)
    assert json.loads(path.read_text()) == result.report
    with np.load(tmp_path / "evaluation_report.npz") as file:
        assert_same(dict(file), result.per_video)
    assert {p.name for p in tmp_path.iterdir()} == {
        "evaluation_report.json",
        "evaluation_report.npz",
    }
