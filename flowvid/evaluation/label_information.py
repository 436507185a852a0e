"""Label information: bits per video, Bayes accuracy, and how far the label images have moved.

At the optimum a label saves at most its own entropy per *video*, which is too little to show in
bits per dimension. The prior p(y) is everywhere the labels' frequencies in the training split,
without smoothing: a label that never occurs there has probability 0 and is never predicted.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.special import entr, logsumexp
from tqdm import tqdm

from flowvid import random_keys
from flowvid.arrays import Params
from flowvid.config.schema import Config
from flowvid.data import datasets
from flowvid.evaluation.partial_results import PartialResults
from flowvid.evaluation.scoring import standard_error
from flowvid.parallel import processes
from flowvid.video import head, joint
from flowvid.video.build import encoder_of


def read_labels(
    dataset: datasets.Dataset, indices: Sequence[int], title: str
) -> Int[np.ndarray, " videos"]:
    """Returns the labels of some videos of a split, without preparing their frames."""
    silent = not processes.is_first()
    shown = tqdm(indices, desc=title, unit="clip", delay=1, leave=False, disable=silent)
    return np.array([dataset.label(index) for index in shown], np.int64)


def count_labels(
    dataset: datasets.Dataset, kept: PartialResults | None = None
) -> Int[np.ndarray, " labels"]:
    """Returns how often each label occurs in a split.

    Each process reads its share of the records, and all of them return the sum.

    Args:
        dataset: the split.
        kept: where the counts are read from if they are there, and written to otherwise.
    """
    if kept is not None and (found := kept.read()):
        return found["counts"]
    own = range(jax.process_index(), len(dataset), jax.process_count())
    labels = read_labels(dataset, own, f"{dataset.split} labels")
    counts = np.bincount(labels, minlength=len(dataset.label_names))
    if jax.process_count() > 1:
        processes.wait("label counts")  # more patient than the following call
        counts = np.sum(multihost_utils.process_allgather(counts), axis=0)
    if kept is not None:
        kept.write({"counts": counts})
    return counts


def label_bits(
    log2_p: Float[np.ndarray, "videos labels"],
    labels: Int[np.ndarray, " videos"],
    prior: Float[np.ndarray, " labels"],
) -> Float[np.ndarray, " videos"]:
    """Returns log2 p(x | y) - log2 sum over y' of p(y') p(x | y') of each video with its label y.

    It is positive on average where labels help, and at most -log2 p(y) for any video.
    """
    own = log2_p[np.arange(len(labels)), labels]
    return own - logsumexp(log2_p * np.log(2), axis=1, b=prior) / np.log(2)


def report(
    log2_p: Float[np.ndarray, "videos labels"],
    labels: Int[np.ndarray, " videos"],
    names: Sequence[str],
    counts: Int[np.ndarray, " labels"],
) -> dict[str, Any]:
    """Returns label bits per video and Bayes accuracy, with standard errors over videos.

    Args:
        log2_p: log2 p(x | y) of each video under each label.
        labels: the videos' own.
        names: of the labels.
        counts: how often each label occurs in the training split: the prior, once normalised.

    Returns:
        - "videos": their number;
        - "bits_per_video", "stderr": mean `label_bits`; "per_label": the same by the name of the
          label, where there are videos of it;
        - "most_bits": the entropy of the prior, which bounds the mean where the videos' labels are
          as frequent as in training;
        - "accuracy", "accuracy_stderr": the share of videos whose label is the argmax over y of
          p(y) p(x | y); "chance": of those with the most frequent training label.
    """
    prior = counts / counts.sum()
    bits = label_bits(log2_p, labels, prior)
    with np.errstate(divide="ignore"):
        right = (np.argmax(log2_p + np.log2(prior), axis=1) == labels).astype(float)
    per_label = {
        name: {
            "bits_per_video": float(own.mean()),
            "stderr": standard_error(own),
            "videos": len(own),
        }
        for label, name in enumerate(names)
        if len(own := bits[labels == label])
    }
    return {
        "num_labels": log2_p.shape[1],
        "bits_per_video": float(bits.mean()),
        "stderr": standard_error(bits),
        "most_bits": float(entr(prior).sum() / np.log(2)),
        "accuracy": float(right.mean()),
        "accuracy_stderr": standard_error(right),
        "videos": len(labels),
        "chance": float(np.mean(labels == np.argmax(counts))),
        "per_label": per_label,
    }


def initial_label_table(config: Config) -> Float[np.ndarray, " labels *shape"]:
    """Returns what the head has of each label at initialisation, by the run's seed."""
    key = random_keys.stream_key(config.seed, random_keys.Stream.HEAD_PARAMETERS)

    def drawn(key: PRNGKeyArray) -> Array:
        context = head.init_context(config, key, joint.blank_batch(config).label)
        return encoder_of(config, "head").label_table(context)

    return np.asarray(jax.jit(drawn)(key))


def distance(config: Config, head_params: Params) -> dict[str, float]:
    """Returns how far the label images have moved, as root mean squares over pixels.

    An encoder without label images has other numbers per label, and these are taken.

    Returns:
        "start" is of the images at initialisation, "moved" of the changes since, "least" and "most"
        of the changes of single labels.
    """
    start = initial_label_table(config).astype(np.float64)
    table = encoder_of(config, "head").label_table(head_params["context"])
    change = (np.asarray(table, np.float64) - start).reshape(len(start), -1)
    per_label = np.sqrt(np.mean(change**2, axis=1))
    return {
        "start": float(np.sqrt(np.mean(start**2))),
        "moved": float(np.sqrt(np.mean(per_label**2))),
        "least": float(per_label.min()),
        "most": float(per_label.max()),
    }
