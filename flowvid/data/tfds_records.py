"""Finds the records that TFDS has prepared, checks them, and selects a size and length.

A record is {"video": uint8[T, H, W, 3], "label", "id"}, as the builders in data_builders/ write it,
or {"image", ...}, as in the image datasets of TFDS, or one of TFDS's video datasets, in whose
features `video_features` finds the video.
"""

import contextlib
import functools
import io
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from flowvid.data import video_features
from flowvid.data.video_features import Builder, Wanted
from flowvid.errors import DataError
from flowvid.sizes import Size

# TensorFlow's C++ code reads these when TFDS imports it, on first use; by default it logs a lot.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

_ANY = Wanted()


def below(folder: Path) -> list[Path]:
    """Returns the folders of completely prepared TFDS records at or below a folder.

    Other libraries also write files called dataset_info.json, and features.json beside it.
    """
    return sorted(
        info.parent
        for depth in ("", "*/", "*/*/", "*/*/*/")
        for info in folder.glob(depth + "dataset_info.json")
        if not info.parent.name.startswith("incomplete.") and _is_of_tfds(info.parent)
    )


def _is_of_tfds(folder: Path) -> bool:
    """Returns whether TFDS wrote a folder, by any one of its files: the others may be damaged."""
    return (
        "tensorflow_datasets" in _text(folder / "features.json")  # the names of its classes
        or '"shardLengths"' in _text(folder / "dataset_info.json")
        or any(any(folder.glob(f"*.{kind}-*-of-*")) for kind in ("array_record", "tfrecord"))
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def prepared(folder: Path, advice: str, wanted: Wanted = _ANY) -> list[Builder]:
    """Returns builders of all records at or below a folder, newest versions first.

    Args:
      folder: where to look.
      advice: the end of the error message if there are no records.
      wanted: the features that are asked for.

    Raises:
      DataError: if there are no records, records of several datasets, or unusable ones.
    """
    import tensorflow_datasets as tfds

    found = below(folder)
    if not found:
        state = "holds no prepared records" if folder.is_dir() else "does not exist"
        raise DataError(f"{folder} {state}. {advice}")
    builders = []
    for path in found:
        with quiet(), damage_reported(path):
            builder = tfds.builder_from_directory(path)
        check_features(builder, wanted)
        _check_format(builder)
        builders.append(builder)
    names = {builder.name for builder in builders}
    if len(names) > 1:
        raise DataError(
            f"{folder} holds several datasets: {', '.join(sorted(names))}; "
            "give the folder of one of them."
        )
    return sorted(builders, key=lambda builder: builder.version, reverse=True)


def is_image_set(builder: Builder, wanted: Wanted = _ANY) -> bool:
    """Returns whether a builder's records are single images, as those of TFDS's image datasets."""
    from tensorflow_datasets.core.features import FeaturesDict, Image

    features = builder.info.features
    return (
        not wanted.video
        and isinstance(features, FeaturesDict)
        and "video" not in features
        and "image" in features
        and isinstance(features["image"], Image)
    )


def is_own(builder: Builder, wanted: Wanted = _ANY) -> bool:
    """Returns whether a builder's videos are those that the builders in data_builders/ write."""
    return wanted.video in (None, "", "video") and video_features.has_own_features(builder)


def shape(builder: Builder, wanted: Wanted = _ANY) -> tuple[Any, ...]:
    """Returns frames, height and width of a builder's records; None where they differ.

    Raises:
      DataError: if they hold no video, or none of that name.
    """
    if is_image_set(builder, wanted):
        return (1, *builder.info.features["image"].shape[:2])
    if is_own(builder, wanted):
        return tuple(builder.info.features["video"].shape[:3])
    return tuple(video_features.choose_video(builder, wanted).feature.shape[:3])


def check_features(builder: Builder, wanted: Wanted) -> None:
    """Checks that a builder's records hold images or a video, and the features asked for.

    Raises:
      DataError: if they do not; the message says what they hold.
    """
    shape(builder, wanted)
    video_features.choose_label(builder, wanted)


def _check_format(builder: Builder) -> None:
    if builder.info.file_format.value != "array_record":
        raise DataError(
            f"The records in {builder.data_dir} are {builder.info.file_format.value}, which cannot "
            "be read by index; prepare them again with `tfds build --file_format=array_record`."
        )


def choose(
    builders: Sequence[Builder],
    num_frames: int,
    image_size: Size | None,
    wanted: Wanted = _ANY,
) -> Builder:
    """Selects the builder with enough frames, of the given size or its smallest multiple.

    None stands for the smallest size there is. Images, and videos of TFDS's own datasets, can have
    any size, because their frames are scaled when they are read.

    Raises:
      DataError: if there is none, or if several configs would do.
    """
    name = builders[0].name
    if is_image_set(builders[0], wanted):
        if num_frames > 1:
            raise DataError(
                f"{name} holds single images, but {num_frames} frames were asked for; use "
                "--num_frames=1, which trains the head alone."
            )
        return _newest(builders)  # each image is scaled when it is read
    shapes = [shape(builder, wanted) for builder in builders]
    is_scaled = not all(is_own(builder, wanted) for builder in builders)
    fitting = [
        shape
        for shape in shapes
        if image_size is None
        or is_scaled
        or (
            shape[1] % image_size.height == 0
            and shape[1] * image_size.width == shape[2] * image_size.height
        )
    ]
    if not fitting:
        sizes = " and ".join(sorted({f"{shape[1]}x{shape[2]}" for shape in shapes}))
        raise DataError(
            f"{name} is available at {sizes}, but image size {image_size} was asked for; use one "
            "of these or a divisor, or prepare that size."
        )
    longest = max(shape[0] or math.inf for shape in fitting)
    if longest < num_frames:
        raise DataError(
            f"{name} has {longest} frames per video, but {num_frames} were asked for; use at most "
            f"{longest}."
        )
    if is_scaled:
        lengths = [size[0] or math.inf for size in shapes]
        return _newest([b for b, n in zip(builders, lengths, strict=True) if n >= num_frames])
    best = min(
        (shape for shape in fitting if shape[0] >= num_frames), key=lambda s: (s[1], s[2], s[0])
    )
    return _newest([b for b, size in zip(builders, shapes, strict=True) if size == best])


def _newest(builders: Sequence[Builder]) -> Builder:
    """Returns the first of builders that differ in nothing but their versions."""
    configs = sorted({b.builder_config.name for b in builders if b.builder_config})
    if len(configs) > 1:
        raise DataError(
            f"{builders[0].name} has several configs of that size and length: "
            f"{', '.join(configs)}; use --dataset={builders[0].name}/<config>, or the folder of "
            "one of them."
        )
    return builders[0]


@functools.cache  # once per process
def allow_unknown_owners() -> None:
    """Lets TFDS and Orbax use files whose owner has no name, as in many containers.

    Both ask etils for the size of a file; it looks up the name of the owner, too, and fails.
    """
    from etils.epath import backend

    stat = backend._OsPathBackend.stat

    def stat_without_names(self: Any, path: Any) -> Any:
        try:
            return stat(self, path)
        except KeyError:
            found = Path(path).stat()
            return backend.stat_utils.StatResult(
                is_directory=Path(path).is_dir(),
                length=found.st_size,
                mtime=int(found.st_mtime),
                owner=None,
                group=None,
                mode=found.st_mode,
            )

    backend._OsPathBackend.stat = stat_without_names


@contextlib.contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Suppresses TFDS's messages below a level; its progress bars stay."""
    allow_unknown_owners()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(level)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


@contextlib.contextmanager
def damage_reported(path: str | Path) -> Iterator[None]:
    """Turns errors of any type, raised when damaged records are read, into a DataError."""
    try:
        yield
    except Exception as error:  # TFDS and protobuf raise errors of many types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"Records in {path} are damaged ({reason}); prepare them again.") from error
