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
from flowvid.video.build import encoder_of


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


def initial_label_table(config: Config) -> Float[np.ndarray, "labels *shape"]:
    """Returns what the head has of each label at initialisation, by the run's seed."""

    def table() -> Any:
        params = joint.init_params(config, joint.blank_batch(config))["head"]
        return encoder_of(config, "head").label_table(params["context"])

    return np.asarray(jax.jit(table)())  # XLA computes no other parameters


def distance(config: Config, head_params: Params) -> dict[str, float]:
    """Returns how far the label images are from their start: root mean squares over pixels.

    "start" is that of the images at initialisation, "moved" that of their change since, "least" and
    "most" those of single labels' changes. Encoders without images have other numbers per label.
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
