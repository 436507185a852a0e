"""Finds the records of a dataset by its name, and prepares them first if that is possible."""

import importlib
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging

from flowvid import paths
from flowvid.config import dataset_names
from flowvid.data import tfds_records
from flowvid.data.video_features import Builder, Wanted
from flowvid.errors import DataError, nearest_first
from flowvid.sizes import Size, SizeLike

# Configs of other names differ in which clips or frames they contain, and must be named.
_PLAIN_CONFIG = re.compile(r"\d+x\d+_\d+f")
_ANY = Wanted()


def find(
    name: str,
    data_dir: str | Path | None,
    num_frames: int,
    image_size: SizeLike | None,
    max_skipped: float = 0.5,
    wanted: Wanted = _ANY,
) -> Builder:
    """Returns the builder of a dataset's records; the arguments are those of `datasets.load`.

    `wanted` holds the features that are asked for.

    None stands for the smallest size there is; clips of a folder can have any, and need one.

    Raises:
      DataError: if there is no such dataset, size or length; the message says what there is.
    """
    root, path = _data_dir(data_dir), paths.expand(name)
    size = None if image_size is None else Size.of(image_size)
    if configs := _generated_configs(name):
        builder = _prepare_generated(name, configs, root, num_frames, size)
    elif dataset_names.is_path(name) and not tfds_records.below(path):
        assert size is not None
        builder = _prepare_folder(path, root, num_frames, size, max_skipped)
    else:
        builders = _prepared(name, root, wanted)
        if name == "moments_in_time":
            builders = _plain(builders, root)
        return tfds_records.choose(builders, num_frames, size, wanted)
    tfds_records.check_features(builder, wanted)
    return builder


def describe_files(name: str) -> str:
    """Returns a table of which files of a folder of clips or images are used, and which are not.

    It is empty for other datasets. Nothing is decoded.

    Raises:
      DataError: if the folder cannot be used; the message says what it holds.
    """
    path = paths.expand(name)
    if not dataset_names.is_path(name) or tfds_records.below(path):
        return ""
    from data_builders.video_folder import file_counts, folder

    return file_counts.describe(folder.list_folder(path))


def holds_images(name: str, data_dir: str | Path | None = None, wanted: Wanted = _ANY) -> bool:
    """Returns whether a dataset consists of single images. Prepares nothing.

    Args:
      name: as in `datasets.load`, like `data_dir`.
      data_dir: the folder of prepared datasets.
      wanted: the features that are asked for.

    Raises:
      DataError: if there is no such dataset; the message says what there is.
    """
    root, path = _data_dir(data_dir), paths.expand(name)
    if _generated_configs(name):
        return False
    if dataset_names.is_path(name) and not tfds_records.below(path):
        from data_builders.video_folder import folder

        return folder.list_folder(path).are_images
    builders = _prepared(name, root, wanted)
    return all(tfds_records.shape(builder, wanted)[0] == 1 for builder in builders)


def _prepared(name: str, root: Path, wanted: Wanted) -> list[Builder]:
    """Returns the builders of what TFDS has prepared under a name in `root`, or at a path."""
    if dataset_names.is_path(name):
        again = "Prepare it again with `tfds build`."
        return tfds_records.prepared(paths.expand(name), again, wanted)
    if dataset_names.is_dataset(name) or (name and (root / name).is_dir()):
        return tfds_records.prepared(root / name, _advice(name, root), wanted)
    known = " or ".join(nearest_first(name, dataset_names.KNOWN))
    raise DataError(
        f"Unknown dataset {name!r}; use {known}, another one that TFDS has prepared in {root} "
        "(`tfds build <name> --file_format=array_record`), or the path of a folder with clips, "
        "images or prepared records."
    )


def _plain(builders: list[Builder], root: Path) -> list[Builder]:
    plain = [b for b in builders if _PLAIN_CONFIG.fullmatch(b.builder_config.name)]
    if not plain:
        others = " or ".join(sorted({f"{b.name}/{b.builder_config.name}" for b in builders}))
        raise DataError(
            f"{root} holds other configs of {builders[0].name} only; name one with "
            f"--dataset={others}. {_advice(builders[0].name, root)}"
        )
    return plain


def _data_dir(data_dir: str | Path | None) -> Path:
    given = data_dir or os.environ.get("TFDS_DATA_DIR")  # as in TFDS
    if given:
        return paths.expand(given)
    default = paths.expand("~/tensorflow_datasets")
    if default.is_dir() or paths.is_usable(default.parent):
        return default
    return paths.cache_folder() / "tensorflow_datasets"


def _advice(name: str, root: Path) -> str:
    dataset, _, config = name.partition("/")
    data_dir = f"--data_dir={shlex.quote(str(root))}"
    if dataset in dataset_names.GENERATED:
        return f"Use {dataset}, which is generated on first use."
    if dataset == "moments_in_time":
        option = f"--config={config} " if config else ""
        return (
            f"Prepare it with `tfds build data_builders/moments_in_time {option}"
            f"--manual_dir=<the archive's folder> {data_dir}` "
            "(see data_builders/moments_in_time/README.md)."
        )
    return f"Prepare it with `tfds build {name} --file_format=array_record {data_dir}`."


def _generated_configs(name: str) -> list[Any]:
    """Returns the configs of a generated dataset, or the one that is named; empty for others."""
    dataset, _, config = name.partition("/")
    if dataset not in dataset_names.GENERATED:
        return []
    configs = _generated(dataset).Builder.BUILDER_CONFIGS
    if config:
        return [each for each in configs if each.name == config]
    return [each for each in configs if _PLAIN_CONFIG.fullmatch(each.name)]


def _generated(dataset: str) -> Any:
    return importlib.import_module(f"data_builders.{dataset}.{dataset}_dataset_builder")


def _prepare_generated(
    name: str, configs: list[Any], data_dir: Path, num_frames: int, image_size: Size | None
) -> Builder:
    dataset = name.split("/")[0]
    module = _generated(dataset)

    def open_config(config: Any) -> Builder:
        with tfds_records.quiet(), tfds_records.damage_reported(data_dir / dataset):
            return module.Builder(data_dir=data_dir, config=config)

    # The choice is among all sizes, prepared or not: otherwise results would depend on the machine.
    builder = tfds_records.choose(
        [open_config(config) for config in configs], num_frames, image_size
    )
    return _prepare_once(builder, name, lambda: open_config(builder.builder_config))


def _prepare_folder(
    path: Path, data_dir: Path, num_frames: int, image_size: Size, max_skipped: float
) -> Builder:
    """Returns the records of a folder of clips or images, prepared anew if a file has changed."""
    from data_builders.video_folder import video_folder_dataset_builder as video_folder

    if data_dir.resolve().is_relative_to(path.resolve()):
        # The next run would find these records in the folder, and read them instead of its files.
        raise DataError(
            f"The records of {path} cannot be stored inside it, in {data_dir}: use another "
            "--data_dir."
        )
    config = video_folder.config_of(path, num_frames, image_size, max_skipped)

    def open_config() -> Builder:
        # TFDS warns about every config that is not in a builder's list.
        with (
            tfds_records.quiet(logging.ERROR),
            tfds_records.damage_reported(data_dir / "video_folder"),
        ):
            return video_folder.Builder(data_dir=data_dir, config=config)

    return _prepare_once(open_config(), str(path), open_config)


def _prepare_once(builder: Builder, name: str, reopen: Callable[[], Builder]) -> Builder:
    """Prepares the records unless they exist, and prints their summaries."""
    if Path(builder.data_dir).exists():
        return builder
    _report_unfinished(Path(builder.data_dir).parent)
    print(f"Preparing {name} in {builder.data_dir}, once.", flush=True)
    try:
        with tfds_records.quiet():
            builder.download_and_prepare()
    except OSError:
        if not Path(builder.data_dir).exists():
            raise
        # Another process has prepared the same records in the meantime.
    for summary in sorted(Path(builder.data_dir).glob("summary-*.txt")):
        print(summary.read_text(encoding="utf-8").strip(), flush=True)
    return reopen()


def _report_unfinished(folder: Path) -> None:
    """Prints which folders preparations have left in `folder` that were killed."""
    unfinished = sorted(folder.glob("incomplete.*"))
    if unfinished:
        print(
            f"{folder} holds {len(unfinished)} unfinished preparations ({unfinished[0].name}, "
            "...), which are not used: delete them unless another process is preparing them.",
            flush=True,
        )
