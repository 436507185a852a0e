"""What labels tell the model: bits a video, Bayes accuracy, how far the label images have moved.

At the optimum a label saves at most its own entropy, log2 of the number of labels, in bits a
*video*: nothing that bits per dimension could show.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

from flowvid.arrays import Params
from flowvid.config.schema import Config
from flowvid.evaluation.scoring import standard_error
from flowvid.video import joint


def label_bits(
    log2_p: Float[np.ndarray, "videos labels"], labels: Int[np.ndarray, " videos"]
) -> Float[np.ndarray, " videos"]:
    """log2 p(x | y) - log2 mean over y' of p(x | y') of each video with its own label y.

    Positive on average where labels help; its mean is at most log2 of the number of labels.
    """
    own = log2_p[np.arange(len(labels)), labels]
    total = logsumexp(log2_p * np.log(2), axis=1) / np.log(2)
    return own - (total - np.log2(log2_p.shape[1]))


def report(
    log2_p: Float[np.ndarray, "videos labels"],
    labels: Int[np.ndarray, " videos"],
    names: Sequence[str],
) -> dict[str, Any]:
    """Label bits a video and Bayes accuracy, argmax over y of p(x | y), with standard errors.

    "chance" is the share of the commonest label: what always naming that one would reach;
    "per_label" has the bits of the labels that there are videos of.
    """
    bits = label_bits(log2_p, labels)
    right = (np.argmax(log2_p, axis=1) == labels).astype(float)
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
        "most_bits": float(np.log2(log2_p.shape[1])),
        "accuracy": float(right.mean()),
        "accuracy_stderr": standard_error(right),
        "chance": float(np.bincount(labels).max() / len(labels)),
        "per_label": per_label,
    }


def initial_images(config: Config) -> Float[np.ndarray, "labels height width channels"]:
    """The label images that a run of this configuration starts from: its seed's."""

    def images() -> Any:
        return joint.init_params(config, joint.blank_batch(config))["head"]["labels"]

    (leaf,) = jax.tree.leaves(jax.jit(images)())  # the rest is not worked out
    return np.asarray(leaf)


def distance(config: Config, head_params: Params) -> dict[str, float]:
    """How far the label images are from where they started: root mean squares over pixels.

    {"start": of the images as they were, "moved": of what has changed since, "least" and "most":
    the same of single labels}.
    """
    start = initial_images(config).astype(np.float64)
    (now,) = jax.tree.leaves(head_params["labels"])
    of_labels = np.sqrt(np.mean((np.asarray(now, np.float64) - start) ** 2, axis=(1, 2, 3)))
    return {
        "start": float(np.sqrt(np.mean(start**2))),
        "moved": float(np.sqrt(np.mean(of_labels**2))),
        "least": float(of_labels.min()),
        "most": float(of_labels.max()),
    }
