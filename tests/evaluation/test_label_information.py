"""Label information: bits and accuracy under the training labels' prior, and moved label images."""

import math
import subprocess
import sys

import jax
import numpy as np
import pytest
from command_line import ROOT, finish_all, free_address
from scipy import stats

from flowvid.data import datasets
from flowvid.evaluation import label_information, partial_results, scoring
from flowvid.parallel.devices import replicate
from flowvid.sizes import Size
from flowvid.training import loop

pytest_plugins = ["system_fixtures"]


EQUAL = np.ones(4, int)


def test_label_bits_by_hand():
    log2_p = np.array([[-10.0, -12.0, -11.0, -12.0], [-3.0, -3.0, -3.0, -3.0]])
    bits = label_information.label_bits(log2_p, np.array([0, 2]), EQUAL / 4)
    mean = (2**-10 + 2 * 2**-12 + 2**-11) / 4
    np.testing.assert_allclose(bits, [-10 - math.log2(mean), 0.0], atol=1e-12)
    report = label_information.report(log2_p, np.array([0, 2]), "abcd", EQUAL)
    assert report["bits_per_video"] == pytest.approx(bits.mean())
    assert report["stderr"] == pytest.approx(abs(bits[0]) / 2)
    assert (report["num_labels"], report["most_bits"]) == (4, pytest.approx(2.0))
    assert (report["accuracy"], report["accuracy_stderr"], report["chance"]) == (0.5, 0.5, 0.5)
    one = {"bits_per_video": pytest.approx(bits[0]), "stderr": None, "videos": 1}
    assert report["per_label"] == {"a": one, "c": one | {"bits_per_video": pytest.approx(0.0)}}


def test_the_prior_by_hand():
    """Three of four training labels are "a"."""
    log2_p = np.array([[-2.0, -1.0], [-3.0, -1.0], [-2.0, -1.0]])
    labels, counts = np.array([0, 1, 1]), np.array([3, 1])
    report = label_information.report(log2_p, labels, "ab", counts)
    total = [math.log2(0.75 * 2**a + 0.25 * 2**b) for a, b in log2_p]
    expected = [-2 - total[0], -1 - total[1], -1 - total[2]]
    np.testing.assert_allclose(label_information.label_bits(log2_p, labels, counts / 4), expected)
    assert report["bits_per_video"] == pytest.approx(np.mean(expected))
    # p(y) p(x | y): 3/16 against 1/8, 3/32 against 1/8, 3/16 against 1/8.
    assert report["accuracy"] == pytest.approx(2 / 3)
    assert report["chance"] == pytest.approx(1 / 3)  # of naming "a", the most frequent in training
    assert report["most_bits"] == pytest.approx(0.75 * math.log2(4 / 3) + 0.25 * 2)


def test_an_exact_model_of_unequal_labels_is_as_good_as_theory_says():
    """Two Gaussians of unit variance, 4/3 apart, with priors 0.9 and 0.1.

    The expected values are integrals over a fine grid; the videos are quantiles.
    """
    counts, distance = np.array([900, 100]), 4 / 3
    prior = counts / counts.sum()
    x = np.linspace(-10, 12, 20_001)
    density = stats.norm.pdf(x[:, None], loc=[0, distance])
    joint, marginal = density * prior, density @ prior
    information = np.sum(joint * np.log2(density / marginal[:, None])) * (x[1] - x[0])
    accuracy = np.sum(joint.max(axis=1)) * (x[1] - x[0])
    np.testing.assert_allclose([information, accuracy], [0.105, 0.907], atol=5e-4)

    labels = np.repeat([0, 1], [45_000, 5_000])
    quantiles = np.concatenate([(np.arange(n) + 0.5) / n for n in (45_000, 5_000)])
    videos = stats.norm.ppf(quantiles) + distance * labels
    log2_p = stats.norm.logpdf(videos[:, None], loc=[0, distance]) / np.log(2)
    report = label_information.report(log2_p, labels, "ab", counts)
    assert report["bits_per_video"] == pytest.approx(information, abs=5e-4)
    assert report["accuracy"] == pytest.approx(accuracy, abs=5e-4)
    assert report["chance"] == 0.9
    assert report["most_bits"] == pytest.approx(0.469, abs=5e-4)


def test_a_label_that_is_not_in_training_is_never_predicted():
    log2_p = np.array([[-9.0, -5.0, -1.0], [-5.0, -9.0, -1.0]])
    report = label_information.report(log2_p, np.array([2, 0]), "abc", np.array([1, 1, 0]))
    assert report["accuracy"] == 0.5
    assert report["most_bits"] == pytest.approx(1.0)
    bits = -1 - math.log2((2**-9 + 2**-5) / 2)
    assert report["per_label"]["c"]["bits_per_video"] == pytest.approx(bits)


def test_label_bits_reach_the_entropy_of_the_labels_and_no_more():
    rng = np.random.default_rng(0)
    own, counts = rng.integers(0, 8, 500), np.ones(8, int)
    known = np.where(np.arange(8) == own[:, None], 0.0, -1000.0)
    report = label_information.report(known, own, "abcdefgh", counts)
    assert report["bits_per_video"] == pytest.approx(3.0)
    guessed = rng.normal(scale=2.0, size=(500, 8))  # independent of the label
    report = label_information.report(guessed, own, "abcdefgh", counts)
    assert report["bits_per_video"] < 0


# The labels of a split.


def split_of(labels):
    """A split whose records have labels alone, so that reading a frame fails."""
    records = [{"label": label} for label in labels]
    return datasets.Dataset(
        "made", "train", records, ("a", "b", "c"), 5, Size(16, 16), "fingerprint"
    )


def test_labels_are_read_without_frames(splits):
    labels = [1, 0, 2, 2]
    split = split_of(labels)
    assert label_information.read_labels(split, range(3), "labels").tolist() == [1, 0, 2]
    assert label_information.count_labels(split).tolist() == [1, 1, 2]
    train = splits[0]
    expected = np.bincount([train[i]["label"] for i in range(len(train))], minlength=8)
    np.testing.assert_array_equal(label_information.count_labels(train), expected)


def test_counts_are_kept(tmp_path):
    kept = partial_results.PartialResults(tmp_path, {"of": "train"})
    counts = label_information.count_labels(split_of([1, 0, 2, 2]), kept)
    again = label_information.count_labels(split_of([]), kept)
    np.testing.assert_array_equal(counts, again)


IN_PROCESSES = """
import faulthandler
import sys
from flowvid.data.datasets import Dataset
from flowvid.evaluation import label_information
from flowvid.parallel import processes
from flowvid.sizes import Size

faulthandler.dump_traceback_later(200)  # where it hangs, if it does
processes.start(sys.argv[1], 2, int(sys.argv[2]))


class Records(list):
    def __getitem__(self, index):
        print("read", index)
        return super().__getitem__(index)


records = Records({"label": label} for label in (1, 0, 2, 2, 1))
split = Dataset("made", "train", records, ("a", "b", "c", "d"), 5, Size(16, 16), "fingerprint")
print("counts", label_information.count_labels(split).tolist())
"""


def test_processes_share_the_records_and_agree_on_the_counts():
    address = free_address()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", IN_PROCESSES, address, str(i)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    for number, (code, out, err) in enumerate(finish_all(running)):
        assert code == 0, err
        lines = out.splitlines()
        assert [line for line in lines if line.startswith("counts")] == ["counts [1, 2, 2, 0]"]
        read = [line for line in lines if line.startswith("read")]
        assert read == [f"read {i}" for i in range(number, 5, 2)]


# The head.


def test_log_probs_of_labels_are_the_heads(model, splits):
    params = replicate(model.params)
    log2_p, of_videos = scoring.label_log2_probs(model.config, params, splits[1], 5, 0)
    assert of_videos is None  # the tail does not see the label
    assert log2_p.shape == (5, 8)
    batch = next(datasets.eval_batches(splits[1], batch_size=5))
    for label in (0, 3):
        expected = model.log_prob(batch["video"], np.full(5, label))[:, 0] / math.log(2)
        np.testing.assert_allclose(log2_p[:, label], expected, rtol=1e-5)
    assert len(np.unique(log2_p)) == 40


def test_label_images_are_measured_from_where_the_run_began(tiny, splits, tmp_path):
    config = loop.prepare(tiny(variant="state_label", num_steps=0))[0]
    begun = loop.train(config, tmp_path).head.params["context"]["labels"]
    (image,) = jax.tree.leaves(begun)
    np.testing.assert_array_equal(label_information.initial_label_table(config), image)
    moved = image.copy()
    moved[2] *= 1.5
    params = {"context": {"labels": jax.tree.map(lambda _: moved, begun)}}
    distance = label_information.distance(config, params)
    rms = lambda x: np.sqrt(np.mean(x.astype(float) ** 2))  # noqa: E731
    assert (distance["least"], distance["most"]) == (0.0, pytest.approx(0.5 * rms(image[2])))
    assert distance["moved"] == pytest.approx(0.5 * rms(image[2]) / np.sqrt(8))
    assert distance["start"] == pytest.approx(rms(image))
