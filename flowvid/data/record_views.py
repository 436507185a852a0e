"""Shows the records of a dataset of TFDS as records of videos: {"video", "label", "id"}.

Each view has `label(index)`, which decodes no frame.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowvid.sizes import Size

Record = dict[str, Any]


class _Decoded(Sequence[Record]):
    """Records that TFDS decodes, each of which is one of the view."""

    source: Sequence[Record]
    label_name: str | None

    def __len__(self) -> int:
        return len(self.source)

    def label(self, index: int) -> int:
        """Returns the label of a record."""
        return 0 if self.label_name is None else _label(self.source[index], self.label_name)


class Images(_Decoded):
    """The records of an image dataset as videos of one frame."""

    def __init__(
        self,
        source: Sequence[Record],
        image_size: Size,
        crop: tuple[int, int, int] | None,
        label_name: str | None,
        start: int = 0,
    ) -> None:
        """Wraps the records of a split.

        Args:
          source: the records.
          image_size: size of the frames.
          crop: top, left and side of the region that is cut out before the centre is taken.
          label_name: the name of the class label; None if there is none.
          start: the number of the first record in the split as it was prepared, for the ids.
        """
        self.source, self.image_size, self.crop = source, image_size, crop
        self.label_name, self.start = label_name, start

    def __getitem__(self, index: Any) -> Any:
        from flowvid.data.decoding import framed_image

        record = self.source[index]
        image = np.broadcast_to(record["image"], (*record["image"].shape[:2], 3))  # grey to RGB
        if self.crop:
            top, left, side = self.crop
            image = image[top : top + side, left : left + side]
        return {
            "video": framed_image(np.ascontiguousarray(image), self.image_size)[None],
            "label": _label(record, self.label_name),
            "id": str(self.start + index).encode(),
        }


class Relabelled(_Decoded):
    """Records of videos with another of their labels in place of "label", or with none."""

    def __init__(self, source: Sequence[Record], label_name: str | None) -> None:
        """Wraps the records of a split; `label_name` is as in `Images`."""
        self.source, self.label_name = source, label_name

    def __getitem__(self, index: Any) -> Any:
        record = self.source[index]
        return record | {"label": _label(record, self.label_name)}


class Clips(Sequence[Record]):
    """The records of a video dataset as videos of one size, cut to their first frames.

    A record is parsed as it is stored, a `tf.train.Example` whose images are encoded one by one,
    so that no more frames are decoded than are shown, and none of other features.
    """

    def __init__(
        self,
        source: Sequence[bytes],
        video_name: str,
        label_name: str | None,
        num_frames: int,
        image_size: Size,
        *,
        numbers: Sequence[int],
        start: int = 0,
    ) -> None:
        """Wraps the records of a split.

        Args:
          source: the records as they are stored.
          video_name: the name of the video.
          label_name: the name of the class label; None if there is none.
          num_frames: frames per clip, from the first on.
          image_size: size of the frames.
          numbers: the indices in `source` of the records that are clips, in their order.
          start: as in `Images`.
        """
        self.source, self.video_name, self.label_name = source, video_name, label_name
        self.num_frames, self.image_size = num_frames, image_size
        self.numbers, self.start = numbers, start

    def __len__(self) -> int:
        return len(self.numbers)

    def label(self, index: int) -> int:
        """Returns the label of a clip; reads nothing if there are none."""
        if self.label_name is None:
            return 0
        return class_of(parse(self.source[self.numbers[index]]), self.label_name)

    def __getitem__(self, index: Any) -> Any:
        from flowvid.data.decoding import decode_images

        number = self.numbers[index]
        example = parse(self.source[number])
        frames = example[self.video_name].bytes_list.value[: self.num_frames]
        return {
            "video": decode_images(frames, self.image_size),
            "label": class_of(example, self.label_name),
            "id": str(self.start + number).encode(),
        }


def parse(record: bytes) -> Any:
    """Returns the features of a stored record by name; images are still encoded."""
    # TensorFlow's own class would import all of TensorFlow.
    from tensorflow_datasets.proto import tf_example_generated_pb2

    return tf_example_generated_pb2.Example.FromString(record).features.feature


def class_of(example: Any, name: str | None) -> int:
    """Returns the class label of that name of what `parse` returns, or 0 where there is none."""
    return 0 if name is None else int(example[name].int64_list.value[0])


def _label(record: Record, name: str | None) -> int:
    """Returns the class label of that name, or 0 where there is none."""
    if name is None:
        return 0
    value: Any = record
    for part in name.split("/"):
        value = value[part]
    return int(value)
