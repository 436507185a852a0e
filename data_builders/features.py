"""The features of a record, which are the same for every builder of videos."""

from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

from flowvid.sizes import Size, SizeLike


def video_features(
    num_frames: int, image_size: SizeLike, label_names: Sequence[str] | None = None
) -> tfds.features.FeaturesDict:
    """Returns the features of a record: "video", "label" and "id".

    "video" is uint8[num_frames, height, width, 3], "label" a class label, "id" a text.

    Args:
      num_frames: frames per video.
      image_size: size of the frames (`Size.of`).
      label_names: the names of the labels in the order of their numbers; None if they are set
        later by `info.features["label"].names = ...`, before the first record is written.
    """
    return tfds.features.FeaturesDict(
        {
            "video": tfds.features.Tensor(
                shape=(num_frames, *Size.of(image_size), 3),
                dtype=np.uint8,
                encoding=tfds.features.Encoding.BYTES,
            ),
            "label": tfds.features.ClassLabel(names=label_names),
            "id": tfds.features.Text(),
        }
    )
