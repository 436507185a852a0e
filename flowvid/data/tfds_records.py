"""Reading prepared TFDS records: which there are below a folder, which fit, and are they whole.

A record is {"video": uint8[T, H, W, 3], "label", "id"}, as the builders in data_builders/ write it;
or {"image", ...}, as TFDS's own image data sets have it.
"""

import contextlib
import io
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from flowvid.errors import DataError

# Read by TensorFlow's C++ side when TFDS imports it, on first use: it has much to say otherwise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

_FEATURES = ("video", "label", "id")
# The face in an image of celeb_a, 218 x 178: top, left and side, as RealNVP and Glow cut it.
_CROPS = {"celeb_a": (40, 15, 148)}
Builder = Any  # a tfds.core.DatasetBuilder; importing TFDS takes long, so it waits for its use


def open_split(builder: Builder, split: str, image_size: int) -> Sequence[dict[str, Any]]:
    """The records of one split, by index; DataError if there are none.

    Images of TFDS's own data sets come as videos of one frame; "test" stands in where they have no
    "validation".
    """
    sizes = {key: info.num_examples for key, info in builder.info.splits.items()}
    if _is_image_set(builder) and split == "validation" and split not in sizes:
        split = "test"
    if not sizes.get(split):
        raise DataError(
            f"{builder.name} has no examples in split {split!r}; it has "
            f"{', '.join(f'{size} in {key!r}' for key, size in sizes.items())} "
            f"({builder.data_dir})."
        )
    with quiet(), damage_reported(builder.data_dir):
        source = builder.as_data_source(split)
        # A damaged shard shows when it is opened: better now than hours into training.
        lengths = [length for length in builder.info.splits[split].shard_lengths if length]
        for end_of_shard in itertools.accumulate(lengths):
            source[end_of_shard - 1]
    if _is_image_set(builder):
        has_labels = _class_label(builder) is not None
        return Images(source, image_size, _CROPS.get(builder.name), has_labels)
    return source


def label_names(builder: Builder) -> tuple[str, ...]:
    """The labels in the order of their indices; one for all where records have none."""
    label = _class_label(builder)
    return ("unlabelled",) if label is None else tuple(label.names)


def _class_label(builder: Builder) -> Any:
    """The feature "label", where it numbers named labels; in lfw, for instance, it is a text."""
    features = builder.info.features
    label = features["label"] if "label" in features else None
    return label if hasattr(label, "names") else None


class Images(Sequence[dict[str, Any]]):
    """Records of an image data set of TFDS as records of videos of one frame."""

    def __init__(
        self,
        source: Sequence[dict[str, Any]],
        image_size: int,
        crop: tuple[int, int, int] | None,
        has_labels: bool,
    ) -> None:
        """`crop`: top, left and side of what is cut out before the centre square is taken."""
        self.source, self.image_size, self.crop = source, image_size, crop
        self.has_labels = has_labels

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> Any:
        from flowvid.data.decoding import square_image

        record = self.source[index]
        image = np.broadcast_to(record["image"], (*record["image"].shape[:2], 3))  # grey to RGB
        if self.crop:
            top, left, side = self.crop
            image = image[top : top + side, left : left + side]
        label = record["label"] if self.has_labels else 0
        video = square_image(np.ascontiguousarray(image), self.image_size)[None]
        return {"video": video, "label": label, "id": str(index).encode()}


def below(folder: Path) -> list[Path]:
    """The folders of finished TFDS records at or below a folder."""
    return sorted(
        info.parent
        for depth in ("", "*/", "*/*/", "*/*/*/")
        for info in folder.glob(depth + "dataset_info.json")
        if not info.parent.name.startswith("incomplete.")
    )


def prepared(folder: Path, advice: str) -> list[Builder]:
    """Builders of all records at or below a folder, newest versions first."""
    import tensorflow_datasets as tfds

    found = below(folder)
    if not found:
        state = "holds no prepared records" if folder.is_dir() else "does not exist"
        raise DataError(f"{folder} {state}. {advice}")
    builders = []
    for path in found:
        with quiet(), damage_reported(path):
            builder = tfds.builder_from_directory(path)
        _check_records(builder)
        builders.append(builder)
    names = {builder.name for builder in builders}
    if len(names) > 1:
        raise DataError(
            f"{folder} holds several data sets: {', '.join(sorted(names))}; "
            "give the folder of one of them."
        )
    return sorted(builders, key=lambda builder: builder.version, reverse=True)


def _is_image_set(builder: Builder) -> bool:
    return "image" in builder.info.features and "video" not in builder.info.features


def shape(builder: Builder) -> tuple[Any, ...]:
    """Frames, height and width of a builder's records; None where they differ."""
    if _is_image_set(builder):
        return (1, *builder.info.features["image"].shape[:2])
    return tuple(builder.info.features["video"].shape[:3])


def _check_records(builder: Builder) -> None:
    if not _is_image_set(builder):
        _check_videos(builder)
    if builder.info.file_format.value != "array_record":
        raise DataError(
            f"The records in {builder.data_dir} are {builder.info.file_format.value}, not readable "
            "by index; prepare them again with `tfds build --file_format=array_record`."
        )


def _check_videos(builder: Builder) -> None:
    missing = [feature for feature in _FEATURES if feature not in builder.info.features]
    if missing:
        raise DataError(
            f"The records in {builder.data_dir} have no feature {', '.join(missing)}; flowvid "
            f"needs {', '.join(_FEATURES)}, as the builders in data_builders/ write them."
        )
    video, label = (builder.info.features[name] for name in ("video", "label"))
    if len(video.shape) != 4 or None in video.shape or not hasattr(label, "names"):
        raise DataError(
            f"The records in {builder.data_dir} cannot be used: 'video' has shape {video.shape}, "
            f"'label' is a {type(label).__name__}; flowvid needs a fixed [time, height, width, 3] "
            "and a ClassLabel, as the builders in data_builders/ write them."
        )


def choose(builders: Sequence[Builder], num_frames: int, image_size: int) -> Builder:
    """The builder with enough frames, of the wanted size or the smallest multiple of it."""
    shapes = [shape(builder) for builder in builders]
    name = builders[0].name
    if _is_image_set(builders[0]):
        if num_frames > 1:
            raise DataError(
                f"{name} holds single images, but {num_frames} frames were asked for; use "
                "--num_frames=1, which trains the head alone."
            )
        return builders[0]  # each image is scaled when it is read
    fitting = [
        shape
        for shape in shapes
        if shape[1] == shape[2] and shape[1] >= image_size and shape[1] % image_size == 0
    ]
    if not fitting:
        sizes = " and ".join(sorted({f"{shape[1]}x{shape[2]}" for shape in shapes}))
        raise DataError(
            f"{name} is available at {sizes}, but image size {image_size} was asked for; use one "
            "of these or a divisor, or prepare that size."
        )
    longest = max(shape[0] for shape in fitting)
    if longest < num_frames:
        raise DataError(
            f"{name} has {longest} frames a video, but {num_frames} were asked for; use at most "
            f"{longest}."
        )
    best = min((shape for shape in fitting if shape[0] >= num_frames), key=lambda s: (s[1], s[0]))
    return builders[shapes.index(best)]


@contextlib.contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Keeps TFDS's messages below a level off the terminal; its progress bars stay."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(level)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


@contextlib.contextmanager
def damage_reported(path: str | Path) -> Iterator[None]:
    """Turns what reading damaged records raises into a DataError that names them."""
    try:
        yield
    except Exception as error:  # TFDS and protobuf raise whatever the damage leads to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"Records in {path} are damaged ({reason}); prepare them again.") from error
