"""The features of a record, the same for every builder of videos."""

from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds


def video_features(
    num_frames: int, image_size: int, label_names: Sequence[str] | None = None
) -> tfds.features.FeaturesDict:
    """A record: "video", uint8[num_frames, image_size, image_size, 3]; "label"; "id", a text.

    Args:
      num_frames: of every video.
      image_size: height and width, in pixels.
      label_names: in the order of their numbers; None where they are set later, by
        `info.features["label"].names = ...`, before the first record is written.
    """
    return tfds.features.FeaturesDict(
        {
            "video": tfds.features.Tensor(
                shape=(num_frames, image_size, image_size, 3),
                dtype=np.uint8,
                encoding=tfds.features.Encoding.BYTES,
            ),
            "label": tfds.features.ClassLabel(names=label_names),
            "id": tfds.features.Text(),
        }
    )
