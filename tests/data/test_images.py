"""Single images: the head alone is trained, evaluated and sampled, and is the head of videos."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import DIMS, NUM_CLIPS, PAPERS_VARIANTS, assert_same, saved
from tensorboard.backend.event_processing import event_file_loader

import flowvid
from data_builders.generated_builder import GeneratedConfig
from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from flowvid import random_keys
from flowvid.config import config_file
from flowvid.data import catalog
from flowvid.errors import ConfigError, DataError
from flowvid.evaluation import evaluation_report, scoring, text_report
from flowvid.parallel.devices import replicate
from flowvid.training import loop
from flowvid.training.train_state import is_constant
from flowvid.video import joint, sampling
from flowvid.video.build import Drawing

pytest_plugins = ["system_fixtures"]
pytestmark = pytest.mark.usefixtures("compiled_once")

CONTEXT_PARTS: dict[str, set[str]] = {"init": set(), "prev_frame": set(), "state": set()} | {
    "state_label": {"labels", "pyramid"}
}


@pytest.fixture(scope="session")
def of_images(tiny, image_dir):
    """A function that makes the tiny configuration on single images, with changes."""
    alone = {"dataset": str(image_dir), "num_frames": 1, "tail_frames": None}
    return lambda **changes: tiny(**alone | changes)


@pytest.fixture(scope="session")
def image_run_of(of_images, tmp_path_factory):
    """A function that trains a variant on images once: (workdir, the state at the end)."""
    runs = {}

    def run(variant):
        if variant not in runs:
            workdir = tmp_path_factory.mktemp(f"{variant}_images")
            runs[variant] = workdir, loop.train(of_images(variant=variant), workdir)
        return runs[variant]

    return run


@pytest.fixture(scope="module")
def images(of_images):
    """The five held-out images [5, 1, 16, 16, 3] and their labels."""
    validation = loop.prepare(of_images())[2]
    items = [validation[index] for index in range(5)]
    return np.stack([i["video"] for i in items]), np.array([i["label"] for i in items])


# Which datasets hold images.


def test_records_of_one_frame_are_images(image_dir, data_dir):
    assert catalog.holds_images(str(image_dir))
    assert not catalog.holds_images(str(data_dir / "moving_shapes"))


def test_one_longer_record_makes_it_videos(tmp_path, monkeypatch):
    monkeypatch.setattr(moving_shapes.Builder, "NUM_CLIPS", {"train": 1, "validation": 1})
    for frames, expected in ((1, True), (2, False)):
        config = GeneratedConfig(name=f"{frames}f", image_size=8 * frames, num_frames=frames)
        moving_shapes.Builder(data_dir=tmp_path, config=config).download_and_prepare()
        assert catalog.holds_images(str(tmp_path / "moving_shapes")) == expected


def test_the_question_prepares_nothing_and_finds_what_is_missing(tmp_path):
    assert not catalog.holds_images("moving_shapes", tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="holds no clips and no images"):
        catalog.holds_images(str(tmp_path))
    with pytest.raises(DataError, match="Unknown dataset 'moving_shape'"):
        catalog.holds_images("moving_shape")


# Training.


@pytest.mark.parametrize("variant", PAPERS_VARIANTS)
def test_every_variant_trains_its_head_alone(image_run_of, variant):
    workdir, run = image_run_of(variant)
    trains = PAPERS_VARIANTS[variant].trains
    assert run.tail is None
    assert set(run.head.params) == {"flow", "context"}
    assert set(run.head.params["context"]) == CONTEXT_PARTS[variant]
    assert set(joint.params_template(config_file.read(workdir)[0])) == {"head"}
    steps_done = 4 if trains else 0
    assert (int(run.step), int(run.head.step), int(run.examples)) == (
        steps_done, steps_done, 4 * steps_done,
    )  # fmt: skip
    assert_same(saved(workdir, steps_done), run)
    if trains:
        leaves = jax.tree_util.tree_leaves_with_path(saved(workdir, 0).head.params)
        for (path, old), new in zip(leaves, jax.tree.leaves(run.head.params), strict=True):
            assert np.array_equal(old, new) == is_constant(path), jax.tree_util.keystr(path)


def test_only_the_head_is_reported(image_run_of):
    (path,) = image_run_of("state_label")[0].glob("events.out.tfevents.*")
    events = event_file_loader.EventFileLoader(str(path)).Load()
    tags = {value.tag for event in events for value in event.summary.value}
    assert {tag.split("/")[0] for tag in tags} == {"head", "validation", "stability"}
    assert {tag for tag in tags if "validation" in tag} == {"validation/head/bits_per_dim_5-bit"}
    assert {"head/bits_per_dim_5-bit", "head/gradient_norm/labels"} <= tags


def test_first_frames_train_the_head_of_the_videos(tiny, run_of, tmp_path):
    config = tiny(num_frames=1, tail_frames=None, variant="prev_frame")
    alone = loop.train(config, tmp_path)
    of_videos = saved(run_of("prev_frame"), 4)
    assert alone.tail is None
    assert_same(alone.head, of_videos.head)


def test_a_stopped_run_goes_on_to_the_bits_of_the_unbroken_one(of_images, image_run_of, tmp_path):
    _, unbroken = image_run_of("prev_frame")
    loop.train(of_images(num_steps=3), tmp_path)
    resumed = loop.train(of_images(num_steps=4), tmp_path)
    assert_same(resumed.head, unbroken.head)
    assert_same(resumed.examples, unbroken.examples)


def test_more_frames_than_an_image_has_are_refused(tiny, image_dir, tmp_path):
    with pytest.raises(DataError, match="1 frames per video, but 5 were asked for"):
        loop.train(tiny(dataset=str(image_dir)), tmp_path)


# A trained run.


@pytest.fixture(scope="module")
def trained(image_run_of):
    return flowvid.load(image_run_of("state_label")[0])


def test_the_report_has_no_tail_but_what_labels_are_worth(trained, of_images):
    splits = loop.prepare(of_images())[1:]
    metrics = ["5-bit", "paper"]
    result = evaluation_report.evaluate(
        trained, *splits, metrics=metrics, num_videos=5, seed=0, noise_draws=2
    )
    report = result.report
    for metric in report["metrics"].values():
        assert set(metric["head"]) == {"bits_per_dim", "stderr"}
        assert (metric["tail"], metric["baselines"]) == (None, {})
    five = report["metrics"]["5-bit"]
    assert set(five["head_baselines"]) == {"independent_pixels", "png", "ffv1", "h264_lossless"}
    bound = five["importance_weighted"]
    assert bound["tail"] is None
    assert 0 < bound["head"]["bits_per_dim"] < 6
    assert report["labels"]["num_labels"] == 8
    title, _, *rows = text_report.format_report(report).splitlines()
    assert f"over 5 images of {splits[1].name} validation" in title
    assert not any("tail" in row or "copy" in row for row in rows)
    assert len(rows) == 8


def test_log_prob_is_the_evaluation_in_nats(trained, images, of_images):
    log_prob = trained.log_prob(*images)
    assert log_prob.shape == (5, 1)
    compiled = scoring.evaluator(trained.config, trained.config.metric)
    params, split = replicate(trained.params), loop.prepare(of_images())[2]
    scores = scoring.score(compiled, params, scoring.Noise(0), split, 4, 5, "scoring")
    assert scores.tail.shape == (5, 0)
    expected = (5 - scores.head) * DIMS * math.log(2)
    np.testing.assert_allclose(log_prob[:, 0], expected, rtol=1e-4)


def test_the_label_conditions_the_image(trained, images):
    pictures, labels = images
    other = trained.log_prob(pictures, (labels + 1) % 8)
    assert (other != trained.log_prob(pictures, labels)).all()


def test_samples_are_single_images(trained):
    samples = trained.sample(3)
    assert samples.videos.shape == (3, 1, 16, 16, 3)
    assert samples.videos.dtype == np.uint8
    assert samples.finite.tolist() == [True, True, True]
    assert len(np.unique(samples.videos)) > 16
    np.testing.assert_array_equal(trained.sample(3).videos, samples.videos)
    one_label = trained.sample(3, trained.label_names[1]).videos
    np.testing.assert_array_equal(one_label[1], samples.videos[1])
    assert (one_label[0] != samples.videos[0]).any()


def test_an_image_that_is_not_finite_is_reported(trained):
    head = trained.params["head"]
    table = head["context"]["labels"]["params"]["images"]
    bad = {"labels": {"params": {"images": table.at[1].set(np.nan)}}}
    params = {"head": head | {"context": head["context"] | bad}}
    keys, labels = random_keys.video_keys(0, 3), jnp.arange(3)
    how = sampling.Drawings(*2 * [Drawing(np.float32(1), None)])
    samples = sampling.collected(sampling.frames(trained.config, params, keys, labels, how, 1))
    assert samples.finite.tolist() == [True, False, True]


def test_what_needs_a_tail_is_refused(trained, images):
    pictures, labels = images
    with pytest.raises(ConfigError, match=r"head alone .* has no tail for 2 frames per video: use"):
        trained.sample(2, num_frames=2)
    with pytest.raises(ConfigError, match=r"head alone .* has no tail for first_frames: use"):
        trained.sample(first_frames=pictures)
    with pytest.raises(ConfigError, match=r"head alone .* has no tail for 3 frames per video: use"):
        trained.log_prob(pictures.repeat(3, axis=1), labels)


def test_the_dataset_is_as_small_as_it_says(of_images):
    config, train, validation = loop.prepare(of_images(num_steps=None))
    assert {"train": len(train), "validation": len(validation)} == NUM_CLIPS
    assert (config.num_steps, config.num_labels) == (3, 8)
