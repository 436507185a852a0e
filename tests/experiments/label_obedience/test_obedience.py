"""Whether samples show their label: the classifier, what is counted, and the command."""

import dataclasses
import json
import types

import imageio.v3 as iio
import numpy as np
import pytest
from helpers import assert_same

import flowvid
from experiments.label_obedience import chosen_clips, classifier, obedience
from experiments.running import finished_runs
from flowvid.config.making import preset_config
from flowvid.errors import ConfigError
from flowvid.evaluation.scoring import standard_error
from flowvid.sizes import Size

pytest_plugins = ["system_fixtures", "command_line"]


def moving_squares(count):
    """Clips [4, 8, 8, 3] of a red or a blue square, which moves down or up: four labels."""
    rng = np.random.default_rng(0)
    records = []
    for label in rng.integers(0, 4, count):
        video = rng.integers(100, 140, (4, 8, 8, 3)).astype(np.uint8)
        for time, frame in enumerate(video):
            row = time if label % 2 else 5 - time
            column = rng.integers(0, 6)
            frame[row : row + 3, column : column + 3] = (250, 0, 0) if label < 2 else (0, 0, 250)
        records.append({"video": video, "label": int(label), "id": b"square"})
    return records


def test_the_classifier_learns_looks_and_motions(tiny):
    records = moving_squares(256)
    split = finished_runs.load_split(tiny(), "train")
    changes = {
        "source": records,
        "num_frames": 4,
        "image_size": Size(8, 8),
        "label_names": tuple("abcd"),
    }
    dataset = dataclasses.replace(split, **changes)
    videos = np.stack([record["video"] for record in records])
    labels = np.array([record["label"] for record in records])
    trained = {steps: classifier.train(dataset, steps, seed=0) for steps in (0, 100)}
    right = {
        steps: np.mean(found.classify(videos)[0] == labels) for steps, found in trained.items()
    }
    assert right[0] < 0.6
    assert right[100] > 0.95
    assert_same(trained[0].params, classifier.train(dataset, 0, seed=0).params)


def test_what_is_counted():
    labels, called = np.array([0, 0, 0, 2]), np.array([0, 0, 1, 2])
    found = obedience.confusion(labels, called, 3)
    np.testing.assert_array_equal(found, [[2, 1, 0], [0, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(obedience.accuracies(found), [2 / 3, np.nan, 1])
    videos = np.zeros((4, 1, 8, 8, 3), np.uint8)
    report = obedience.report(
        obedience.Obedience(
            "shapes", "all", ("a", "b", "c"), found, found.T, videos, labels, called
        )
    )
    assert report["real"]["accuracy"] == 0.75
    assert report["real"]["stderr"] == pytest.approx(standard_error(np.array([1, 1, 1, 0.0])))
    assert report["real"]["per_label"] == {"a": pytest.approx(2 / 3), "b": None, "c": 1.0}
    assert report["generated"]["per_label"] == {"a": 1.0, "b": 0.0, "c": 1.0}
    assert report["chance"] == pytest.approx(1 / 3)


def test_samples_of_every_label_are_classified(run_of, call, tmp_path):
    out = tmp_path / "obedience"
    args = ("--per_label=1", "--classifier_steps=1", f"--out={out}")
    code, printed, _ = call("experiments.obedience", f"--run={run_of('state_label')}", *args)
    assert code == 0
    for expected in ("clips of their label", "bounce", "yellow_ring", "chance"):
        assert expected in printed
    report = json.loads((out / "obedience.json").read_text())
    assert np.sum(report["generated"]["confusion"], axis=1).tolist() == [1] * 8
    assert np.sum(report["real"]["confusion"]) == 5
    assert len(report["label_names"]) == 8
    assert iio.imread(out / "confusion.png").ndim == iio.imread(out / "samples.png").ndim == 3


def test_labels_of_looks_are_told_from_first_frames(run_of, call, tmp_path):
    args = ("--frames=first", "--labels=yellow_ring,red_disk,red_disk", "--per_label=3")
    args += ("--classifier_steps=1", f"--out={tmp_path}")
    code, printed, _ = call("experiments.obedience", f"--run={run_of('state_label')}", *args)
    assert code == 0
    assert "first frames of their label" in printed
    assert "50%" in printed.splitlines()[-2]  # chance
    report = json.loads((tmp_path / "obedience.json").read_text())
    assert report["frames"] == "first"
    assert report["label_names"] == ["red_disk", "yellow_ring"]
    assert np.sum(report["generated"]["confusion"], axis=1).tolist() == [3, 3]
    with np.load(tmp_path / "samples.npz") as file:
        assert file["samples"].shape[:2] == (6, 1)


def test_held_out_clips_are_continued_under_their_label(run_of, call, tmp_path):
    run, out = run_of("label_everywhere"), tmp_path / "out"
    args = (f"--run={run}", "--given=1", "--labels=bounce,fall", "--classifier_steps=1")
    code, printed, _ = call("experiments.obedience", *args, "--per_label=1", f"--out={out}")
    assert code == 0
    assert "continued" in printed
    report = json.loads((out / "obedience.json").read_text())
    assert report["given"] == 1
    assert np.sum(report["generated"]["confusion"], axis=1).tolist() == [1, 1]
    split = finished_runs.load_split(flowvid.load(run).config, "validation")
    clips = chosen_clips.chosen(split, [0, 1], "all")
    first = [next(clip for clip in clips if clip["label"] == label) for label in (0, 1)]
    with np.load(out / "samples.npz") as file:
        samples = file["samples"]
    np.testing.assert_array_equal(samples[:, 0], [clip["video"][0] for clip in first])
    assert np.any(samples[:, 1:] != [clip["video"][1:] for clip in first])


def test_clips_of_each_label_take_turns():
    labels = np.array([1, 1, 0, 1, 0])
    assert obedience._first_of_each(labels, 3, 5) == [2, 0, 4, 1, 3]
    assert obedience._first_of_each(labels, 3, 1) == [2, 0]


@pytest.mark.parametrize(
    ("variant", "args", "expected"),
    [
        ("state_label", ["--given=1"], "sees no label, so continuations cannot show one"),
        ("label_everywhere", ["--given=1", "--frames=first"], "leave one of them out"),
        ("label_everywhere", ["--given=30"], "to predict: give fewer"),
    ],
)
def test_what_cannot_be_continued_is_refused(run_of, call, tmp_path, variant, args, expected):
    code, _, message = call(
        "experiments.obedience", f"--run={run_of(variant)}", f"--out={tmp_path / 'out'}", *args
    )
    assert code != 0
    assert expected in message


def test_one_label_is_not_enough(run_of, call, tmp_path):
    args = (f"--run={run_of('state_label')}", f"--out={tmp_path}")
    code, _, message = call("experiments.obedience", *args, "--labels=bounce,bounce")
    assert code != 0
    assert "needs at least two different labels" in message
    code, _, message = call("experiments.obedience", *args, "--labels=bounce,falls")
    assert code != 0
    assert "Unknown label 'falls'; the nearest of 8: fall" in message


def test_the_clips_of_some_labels_whole_or_frame_by_frame(tiny):
    split = finished_runs.load_split(tiny(), "train")
    records = moving_squares(16)
    changes = {
        "source": records,
        "num_frames": 3,
        "image_size": Size(8, 8),
        "label_names": tuple("abcd"),
    }
    dataset = dataclasses.replace(split, **changes)
    wanted = [record for record in records if record["label"] in (1, 3)]
    for frames, per_clip in (("all", 1), ("first", 1), ("any", 3)):
        found = chosen_clips.chosen(dataset, [1, 3], frames)
        assert len(found) == per_clip * len(wanted)
        assert found.label_names == ("b", "d")
        for index in range(len(found)):
            clip, frame = wanted[index // per_clip], index % per_clip
            video = clip["video"][:3] if frames == "all" else clip["video"][frame : frame + 1]
            np.testing.assert_array_equal(found[index]["video"], video)
            assert found[index]["label"] == (clip["label"] == 3)


def test_a_run_without_labels_is_refused(monkeypatch, tmp_path):
    unlabelled = types.SimpleNamespace(config=preset_config("small", variant="state"))
    monkeypatch.setattr(flowvid, "load", lambda run, checkpoint: unlabelled)
    with pytest.raises(ConfigError, match="is of the variant state, which has no labels to obey"):
        obedience.measure(
            tmp_path,
            labels=None,
            frames="all",
            checkpoint="last",
            per_label=1,
            temperature=None,
            guidance=None,
            steps=1,
            seed=0,
        )


def test_guidance_is_that_of_samples(run_of, call, tmp_path):
    args = ("--classifier_steps=0", "--guidance=2", f"--out={tmp_path / 'out'}")
    code, _, message = call("experiments.obedience", f"--run={run_of('state_label')}", *args)
    assert code != 0
    assert "this run cannot be guided: guidance needs" in message
