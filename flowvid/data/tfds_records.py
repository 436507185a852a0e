"""Finds the records that TFDS has prepared, checks them, and selects a size and length.

A record is {"video": uint8[T, H, W, 3], "label", "id"}, as the builders in data_builders/ write it,
or {"image", ...}, as in the image datasets of TFDS.
"""

import contextlib
import functools
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from flowvid.errors import DataError
from flowvid.sizes import Size

# TensorFlow's C++ code reads these when TFDS imports it, on first use; by default it logs a lot.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

_FEATURES = ("video", "label", "id")
Builder = Any  # a tfds.core.DatasetBuilder; TFDS is imported on first use, since that takes long


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


def prepared(folder: Path, advice: str) -> list[Builder]:
    """Returns builders of all records at or below a folder, newest versions first.

    Args:
      folder: where to look.
      advice: the end of the error message if there are no records.

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
        _check_records(builder)
        builders.append(builder)
    names = {builder.name for builder in builders}
    if len(names) > 1:
        raise DataError(
            f"{folder} holds several datasets: {', '.join(sorted(names))}; "
            "give the folder of one of them."
        )
    return sorted(builders, key=lambda builder: builder.version, reverse=True)


def is_image_set(builder: Builder) -> bool:
    """Returns whether a builder's records are single images, as those of TFDS's image datasets."""
    return "image" in builder.info.features and "video" not in builder.info.features


def shape(builder: Builder) -> tuple[Any, ...]:
    """Returns frames, height and width of a builder's records; None where they differ."""
    if is_image_set(builder):
        return (1, *builder.info.features["image"].shape[:2])
    return tuple(builder.info.features["video"].shape[:3])


def _check_records(builder: Builder) -> None:
    if not is_image_set(builder):
        _check_videos(builder)
    if builder.info.file_format.value != "array_record":
        raise DataError(
            f"The records in {builder.data_dir} are {builder.info.file_format.value}, which cannot "
            "be read by index; prepare them again with `tfds build --file_format=array_record`."
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


def choose(builders: Sequence[Builder], num_frames: int, image_size: Size | None) -> Builder:
    """Selects the builder with enough frames, of the given size or its smallest multiple.

    None stands for the smallest size there is.

    Raises:
      DataError: if there is none, or if several configs would do.
    """
    name = builders[0].name
    if is_image_set(builders[0]):
        if num_frames > 1:
            raise DataError(
                f"{name} holds single images, but {num_frames} frames were asked for; use "
                "--num_frames=1, which trains the head alone."
            )
        return _newest(builders)  # each image is scaled when it is read
    shapes = [shape(builder) for builder in builders]
    fitting = [
        shape
        for shape in shapes
        if image_size is None
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
    longest = max(shape[0] for shape in fitting)
    if longest < num_frames:
        raise DataError(
            f"{name} has {longest} frames per video, but {num_frames} were asked for; use at most "
            f"{longest}."
        )
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
