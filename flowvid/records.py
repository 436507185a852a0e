"""Finding prepared TFDS records on disk, and preparing those that can be generated.

A record is {"video": uint8[T, H, W, 3], "label", "id"}, as the builders in data_builders/ write it.
"""

import contextlib
import difflib
import io
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from flowvid.errors import DataError

# Read by TensorFlow's C++ side when TFDS imports it, on first use: it has much to say otherwise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

KNOWN_DATASETS = ("moving_shapes", "moments_in_time")
_FEATURES = ("video", "label", "id")

Builder = Any  # a tfds.core.DatasetBuilder; importing TFDS takes long, so it waits for its use


def find(name: str, data_dir: str | Path | None, num_frames: int, image_size: int) -> Builder:
    """The builder of a data set's prepared records; the arguments are those of `data.load`."""
    default_dir = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")  # as TFDS has it
    data_dir = Path(data_dir or default_dir).expanduser()
    if name == "moving_shapes":
        return _prepare_moving_shapes(data_dir, num_frames, image_size)
    if name == "moments_in_time":
        advice = (
            f"Prepare it with `tfds build data_builders/{name} --manual_dir=<the archive's folder> "
            f"--data_dir={data_dir}` (see data_builders/{name}/README.md)."
        )
        return _choose(_prepared(data_dir / name, advice), num_frames, image_size)
    if os.sep in name or Path(name).expanduser().is_dir():
        advice = (
            "Give a folder that `tfds build` wrote: one with dataset_info.json, features.json and "
            "*.array_record files, or one above it."
        )
        return _choose(_prepared(Path(name).expanduser(), advice), num_frames, image_size)
    raise DataError(
        f"Unknown data set {name!r}; use {' or '.join(nearest_first(name, KNOWN_DATASETS))}, "
        "or the path of a folder with prepared records."
    )


def open_split(builder: Builder, split: str) -> Sequence[dict[str, Any]]:
    """The records of one split, by index; DataError if there are none."""
    sizes = {key: info.num_examples for key, info in builder.info.splits.items()}
    if not sizes.get(split):
        raise DataError(
            f"{builder.name} has no examples in split {split!r}; it has "
            f"{', '.join(f'{size} in {key!r}' for key, size in sizes.items())} "
            f"({builder.data_dir})."
        )
    with _quiet(), _damage_reported(builder.data_dir):
        source = builder.as_data_source(split)
        # A damaged shard shows when it is opened: better now than hours into training.
        for end_of_shard in itertools.accumulate(builder.info.splits[split].shard_lengths):
            source[end_of_shard - 1]
        return source


def nearest_first(name: str, known: Sequence[str]) -> list[str]:
    """All known names, those most like the given one first."""
    return sorted(known, key=lambda other: -difflib.SequenceMatcher(None, name, other).ratio())


def _prepare_moving_shapes(data_dir: Path, num_frames: int, image_size: int) -> Builder:
    from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes

    def open_config(config: Any) -> Builder:
        with _quiet(), _damage_reported(data_dir / "moving_shapes"):
            return moving_shapes.Builder(data_dir=data_dir, config=config)

    # The choice is among all sizes, not the prepared ones, or results would differ by machine.
    configs = moving_shapes.Builder.BUILDER_CONFIGS
    builder = _choose([open_config(config) for config in configs], num_frames, image_size)
    if Path(builder.data_dir).exists():
        return builder
    print(f"Preparing moving_shapes in {builder.data_dir}, once.", flush=True)
    try:
        with _quiet():
            builder.download_and_prepare()
    except OSError:
        if not Path(builder.data_dir).exists():
            raise
        # Another process prepared the same records first, and took the name.
    return open_config(builder.builder_config)


def _prepared(folder: Path, advice: str) -> list[Builder]:
    """Builders of all records at or below a folder, newest versions first."""
    import tensorflow_datasets as tfds

    found = sorted(
        info.parent
        for depth in ("", "*/", "*/*/", "*/*/*/")
        for info in folder.glob(depth + "dataset_info.json")
        if not info.parent.name.startswith("incomplete.")
    )
    if not found:
        state = "holds no prepared records" if folder.is_dir() else "does not exist"
        raise DataError(f"{folder} {state}. {advice}")
    builders = []
    for path in found:
        with _quiet(), _damage_reported(path):
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


def _check_records(builder: Builder) -> None:
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
    if builder.info.file_format.value != "array_record":
        raise DataError(
            f"The records in {builder.data_dir} are {builder.info.file_format.value}, not readable "
            "by index; prepare them again with `tfds build --file_format=array_record`."
        )


def _choose(builders: Sequence[Builder], num_frames: int, image_size: int) -> Builder:
    """The builder with enough frames, of the wanted size or the smallest multiple of it."""
    shapes = [builder.info.features["video"].shape for builder in builders]
    name = builders[0].name
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
def _quiet() -> Iterator[None]:
    """Keeps TFDS's messages off the terminal; its progress bars stay, and so do warnings."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


@contextlib.contextmanager
def _damage_reported(path: str | Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # TFDS and protobuf raise whatever the damage leads to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"Records in {path} are damaged ({reason}); prepare them again.") from error
