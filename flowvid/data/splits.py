"""Opens a split of prepared records by index, and computes its fingerprint."""

import functools
import hashlib
import itertools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from flowvid.data import tfds_records
from flowvid.data.tfds_records import Builder
from flowvid.errors import DataError
from flowvid.sizes import Size

# The face in an image of celeb_a, 218 x 178: top, left and side, as in RealNVP and Glow.
_CROPS = {"celeb_a": (40, 15, 148)}
_VALIDATION_SHARE = 0.1  # of the training images of image datasets without a validation split


class Records(NamedTuple):
    """The records of one split.

    Attributes:
      source: the records, by index.
      fingerprint: a short hex digest that changes when records are added, removed or reordered.
    """

    source: Sequence[dict[str, Any]]
    fingerprint: str


class _Part(NamedTuple):
    """Records `start` to `stop` of a split as it was prepared."""

    prepared: str
    start: int
    stop: int


def _parts(builder: Builder) -> dict[str, _Part]:
    """Returns the splits of a dataset, those without records included.

    If an image dataset of TFDS has no validation split, the last tenth of its training images
    becomes one and is no longer part of "train".
    """
    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    parts = {name: _Part(name, 0, size) for name, size in sizes.items()}
    total = sizes.get("train", 0)
    if tfds_records.is_image_set(builder) and "validation" not in sizes and total > 1:
        start = total - max(1, round(_VALIDATION_SHARE * total))
        parts["train"] = _Part("train", 0, start)
        parts["validation"] = _Part("train", start, total)
    return parts


def sizes(builder: Builder) -> dict[str, int]:
    """Returns the number of records of each split that has any."""
    return {
        name: part.stop - part.start
        for name, part in _parts(builder).items()
        if part.stop > part.start
    }


@functools.cache  # once per process
def _report_held_out(name: str, data_dir: str, held_out: int, total: int) -> None:
    print(
        f"{name} in {data_dir} has no validation split: the last {held_out} of its {total} "
        "training images are held out for validation.",
        flush=True,
    )


def open_records(builder: Builder, split: str, image_size: Size) -> Records:
    """Opens the records of one split; images become videos of one frame.

    Raises:
      DataError: if there are none, or if they are damaged.
    """
    part = _parts(builder).get(split)
    if part is None or part.start == part.stop:
        found = ", ".join(f"{p.stop - p.start} in {n!r}" for n, p in _parts(builder).items())
        raise DataError(
            f"{builder.name} has no examples in split {split!r}; it has {found} "
            f"({builder.data_dir})."
        )
    whole = builder.info.splits[part.prepared]
    spec = part.prepared
    if part.stop - part.start < whole.num_examples:
        spec = f"{part.prepared}[{part.start}:{part.stop}]"
        held_out = whole.num_examples - _parts(builder)["train"].stop
        _report_held_out(builder.name, str(builder.data_dir), held_out, whole.num_examples)
    with tfds_records.quiet(), tfds_records.damage_reported(builder.data_dir):
        source = builder.as_data_source(spec)
        # A damaged shard shows when it is opened: better now than hours into training.
        lengths = [int(length) for length in builder.info.splits[spec].shard_lengths]
        ends = [source[end - 1] for end in itertools.accumulate(filter(None, lengths))]
    fingerprint = _fingerprint(builder, part.prepared, spec, lengths, ends)
    if tfds_records.is_image_set(builder):
        has_labels = _class_label(builder) is not None
        crop = _CROPS.get(builder.name)
        source = Images(source, image_size, crop, has_labels, part.start)
    return Records(source, fingerprint)


def _fingerprint(
    builder: Builder, prepared: str, spec: str, lengths: list[int], ends: list[dict[str, Any]]
) -> str:
    """Returns a digest of what a split consists of, without reading more than `ends`.

    Args:
        builder: the dataset.
        prepared: the name of the split as it was prepared.
        spec: the part of it that is read.
        lengths: the numbers of records in the shards of that part.
        ends: the last records of these shards.
    """
    config = builder.builder_config
    described = {
        "dataset": builder.name,
        "config": config.name if config else "",
        "version": str(builder.version),
        "split": spec,
        "shard_lengths": lengths,
        "num_bytes": int(builder.info.splits[prepared].num_bytes),
    }
    if not tfds_records.is_image_set(builder):
        # All videos of one shape have the same number of bytes, whatever their order.
        described["last_ids"] = [record["id"].decode() for record in ends]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def label_names(builder: Builder) -> tuple[str, ...]:
    """Returns the labels in the order of their indices, or a single one if records have none."""
    label = _class_label(builder)
    return ("unlabelled",) if label is None else tuple(label.names)


def _class_label(builder: Builder) -> Any:
    """Returns the feature "label" if it numbers named labels; in lfw, for example, it is a text."""
    features = builder.info.features
    label = features["label"] if "label" in features else None
    return label if hasattr(label, "names") else None


class Images(Sequence[dict[str, Any]]):
    """The records of an image dataset of TFDS as records of videos of one frame."""

    def __init__(
        self,
        source: Sequence[dict[str, Any]],
        image_size: Size,
        crop: tuple[int, int, int] | None,
        has_labels: bool,
        start: int = 0,
    ) -> None:
        """Wraps the records of a split.

        Args:
          source: the records.
          image_size: size of the frames.
          crop: top, left and side of the region that is cut out before the centre is taken.
          has_labels: whether the records have class labels.
          start: the number of the first record in the split as it was prepared, for the ids.
        """
        self.source, self.image_size, self.crop = source, image_size, crop
        self.has_labels, self.start = has_labels, start

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> Any:
        from flowvid.data.decoding import framed_image

        record = self.source[index]
        image = np.broadcast_to(record["image"], (*record["image"].shape[:2], 3))  # grey to RGB
        if self.crop:
            top, left, side = self.crop
            image = image[top : top + side, left : left + side]
        label = record["label"] if self.has_labels else 0
        video = framed_image(np.ascontiguousarray(image), self.image_size)[None]
        return {"video": video, "label": label, "id": str(self.start + index).encode()}
