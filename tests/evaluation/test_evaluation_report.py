"""The report of an evaluation: its numbers, its text, its files, and how it is resumed."""

import dataclasses
import json
import math
import re

import jax
import numpy as np
import pytest
from helpers import DIMS, assert_same

from flowvid.config.metrics import METRICS
from flowvid.data import datasets
from flowvid.errors import ConfigError
from flowvid.evaluation import (
    baselines,
    bounds,
    codecs,
    evaluation_report,
    label_information,
    scoring,
    text_report,
)
from flowvid.parallel.devices import replicate

pytest_plugins = ["system_fixtures"]

FIVE = METRICS["5-bit"]
DRAWS = 3


@pytest.fixture(scope="module")
def evaluated(model, splits, tmp_path_factory):
    """The evaluation, and the folder of its intermediate results."""
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
    assert five["head"] == bounds.mean_and_stderr(scores.head)
    np.testing.assert_array_equal(five["tail"]["per_frame"], scores.tail.mean(axis=0))
    by_video = scores.tail.mean(axis=1)
    assert five["tail"]["stderr"] == pytest.approx(np.std(by_video, ddof=1) / math.sqrt(5))
    assert set(five["baselines"]) == set(text_report.TITLES)
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
        expected = bounds.importance_weighted(bits, DIMS)
        assert bound[part]["bits_per_dim"] == pytest.approx(expected.mean())
        assert bits.min(axis=0).mean() < bound[part]["bits_per_dim"] < bits.mean()


def test_the_report_has_what_labels_are_worth(report, model, splits, evaluated):
    params = replicate(model.params)
    log2_p, _ = scoring.label_log2_probs(model.config, params, splits[1], 5, 0)
    own = next(datasets.eval_batches(splits[1], batch_size=5))["label"].astype(int)
    counts = label_information.count_labels(splits[0])
    images = label_information.distance(model.config, model.params["head"])
    expected = label_information.report(log2_p, own, model.label_names, counts)
    assert report["labels"] == expected | {"images": images}
    assert report["video_labels"] is None
    np.testing.assert_array_equal(
        evaluated[0].per_video["labels"],
        label_information.label_bits(log2_p, own, counts / counts.sum()),
    )


def test_labels_may_be_compared_on_fewer_videos(evaluated, model, splits):
    whole, folder = evaluated
    options = {"metrics": ["5-bit"], "num_videos": 5, "noise_draws": DRAWS, "keep_in": folder}
    part = evaluation_report.evaluate(model, *splits, seed=0, **options, label_videos=3)
    assert (whole.report["labels"]["videos"], part.report["labels"]["videos"]) == (5, 3)
    assert part.report["metrics"]["5-bit"] == whole.report["metrics"]["5-bit"]
    np.testing.assert_allclose(part.per_video["labels"], whole.per_video["labels"][:3], rtol=1e-5)
    assert "bits per video over 3 (entropy" in text_report.format_report(part.report)


def test_what_the_tail_is_told_is_latent_only_where_it_is_told_a_label(model, splits):
    with pytest.raises(ConfigError, match="of --variant=state_label does not: leave the flag out"):
        evaluation_report.evaluate(
            model, *splits, metrics=["5-bit"], num_videos=5, seed=0, latent_label_videos=2
        )


def test_there_is_one_number_per_video_for_paired_errors(evaluated, score):
    per_video = evaluated[0].per_video
    np.testing.assert_array_equal(per_video["5-bit/tail"], score().tail)
    np.testing.assert_array_equal(per_video["5-bit/head"], score().head)
    copies = per_video["5-bit/baselines/copy_last_frame_logistic"]
    reported = evaluated[0].report["metrics"]["5-bit"]["baselines"]["copy_last_frame_logistic"]
    assert copies.mean() == reported["bits_per_dim"]


@pytest.fixture
def work(monkeypatch):
    """What is computed: "batch" for a batch of the models, "codec" for a video in a codec."""
    done = set()
    original = scoring.over_videos

    def over_videos(result_of, *args, **kwargs):
        def counted(batch):
            done.add("batch")
            return result_of(batch)

        return original(counted, *args, **kwargs)

    monkeypatch.setattr(scoring, "over_videos", over_videos)
    monkeypatch.setattr(codecs, "bits_per_dim", lambda *_: done.add("codec") or (1.0, 1.0))
    return done


def test_the_same_evaluation_is_resumed(evaluated, model, splits, work):
    result, folder = evaluated
    options = {"metrics": ["5-bit"], "num_videos": 5, "noise_draws": DRAWS, "keep_in": folder}
    again = evaluation_report.evaluate(model, *splits, seed=0, **options)
    assert not work
    assert again.report["metrics"]["5-bit"] == result.report["metrics"]["5-bit"]
    assert again.report["labels"] == result.report["labels"]


def reversed_split(split):
    """A dataset of the same name and length with the clips in another order."""
    return dataclasses.replace(split, source=[split.source[i] for i in range(len(split))][::-1])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("seed", {"batch"}),
        ("draws", {"batch"}),
        ("train", {"codec"}),
        ("validation", {"batch", "codec"}),
        ("params", {"batch"}),
        ("settings", {"codec"}),
    ],
)
def test_what_another_evaluation_depends_on_is_computed(
    evaluated, model, splits, work, monkeypatch, changed, expected
):
    (train, validation), seed, draws = splits, 0, DRAWS
    if changed == "seed":
        seed = 1
    elif changed == "draws":
        draws += 1
    elif changed == "train":
        train = reversed_split(train)
    elif changed == "validation":
        validation = reversed_split(validation)
    elif changed == "params":
        params = jax.tree.map(lambda p: p * 1.5, model.params)
        model = dataclasses.replace(model, params=params)
    else:
        settings = baselines.SETTINGS | {"chosen_on": 5}
        monkeypatch.setattr(baselines, "SETTINGS", settings)
    options = {"metrics": ["5-bit"], "num_videos": 5, "keep_in": evaluated[1]}
    evaluation_report.evaluate(model, train, validation, seed=seed, noise_draws=draws, **options)
    assert work == expected


def test_intermediate_results_are_removed(tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "file").touch()
    evaluation_report.forget(folder)
    assert not folder.exists()


def test_the_table_names_the_metric_of_each_number(report):
    title, header, *rows = text_report.format_report(report).splitlines()
    assert "state_label, step 4: " in title
    assert "5 videos of moving_shapes validation" in title
    assert re.split(r"\s{2,}", header.strip()) == ["5-bit metric", "paper metric"]
    table = [re.split(r"\s{2,}", row.strip()) for row in rows[:-2]]
    five = report["metrics"]["5-bit"]
    expected = []
    for title, part, key in (
        ("first frame (head)", "head", "head_baselines"),
        ("next frames (tail)", "tail", "baselines"),
    ):
        entries = [report["metrics"][metric][part] for metric in ("5-bit", "paper")]
        expected.append([title, *map(shown, entries)])
        expected.append(["the same, 3 noise draws", shown(five["importance_weighted"][part]), "-"])
        expected += [
            [title, shown(five[key][name]), "-"]
            for name, title in text_report.TITLES.items()
            if name in five[key]
        ]
    assert table == expected
    assert len(table) == 14
    most = report["labels"]["most_bits"]
    pattern = (
        r"labels, from first frames: -?[\d.]+ ± [\d.]+ bits per video over 5 "
        rf"\(entropy of the 8 labels .*: {most:.2f}\)"
    )
    assert re.match(pattern, rows[-2])
    assert rows[-1].startswith("label images: pixels have moved by ")


def test_the_report_names_the_split_and_how_the_checkpoint_was_chosen(model, splits):
    options = {"metrics": ["paper"], "num_videos": 2, "seed": 0}
    test = dataclasses.replace(splits[1], split="test")
    chosen = {}
    for checkpoint in ("last", "best", "4"):
        result = evaluation_report.evaluate(
            model, splits[0], test, checkpoint=checkpoint, **options
        )
        report = json.loads(json.dumps(result.report))
        assert (report["split"], report["checkpoint"]) == ("test", checkpoint)
        chosen[checkpoint] = report["checkpoint_chosen_on"]
        title = text_report.format_report(report).splitlines()[0]
        assert title.endswith("2 videos of moving_shapes test")
        in_text = "(checkpoint chosen on the validation split)" in title
        assert in_text == (checkpoint == "best")
    assert chosen == {"last": None, "best": "validation", "4": None}


def shown(entry):
    return f"{entry['bits_per_dim']:.4f} ± {entry['stderr']:.4f}"


def test_a_single_video_has_no_error_to_show(report):
    one = {"bits_per_dim": 1.25, "stderr": None}
    nothing = {"baselines": {}, "head_baselines": {}, "importance_weighted": None}
    metrics = {"5-bit": {"head": one, "tail": one, **nothing}}
    changed = {**report, "metrics": metrics, "labels": None}
    _, *table = text_report.format_report(changed).splitlines()
    assert [row.split()[-1] for row in table] == ["metric", "1.2500", "1.2500"]


def test_report_and_numbers_of_videos_are_written(evaluated, tmp_path):
    result, _ = evaluated
    path = evaluation_report.write(result, tmp_path)
    assert json.loads(path.read_text()) == result.report
    with np.load(tmp_path / "evaluation.npz") as file:
        assert_same(dict(file), result.per_video)
    assert {p.name for p in tmp_path.iterdir()} == {
        "evaluation.json",
        "evaluation.npz",
    }
