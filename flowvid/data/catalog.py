"""From a data set's name to its records, which are prepared first where that can be done here."""

import importlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging

from flowvid.data import tfds_records
from flowvid.data.tfds_records import Builder
from flowvid.errors import DataError, nearest_first

_GENERATED = ("moving_shapes", "moving_digits")
KNOWN_DATASETS = (*_GENERATED, "moments_in_time", "celeb_a")
# Configs that differ from these in which clips or frames they hold are only taken by their names.
_PLAIN_CONFIG = re.compile(r"\d+x\d+_\d+f")


def find(
    name: str,
    data_dir: str | Path | None,
    num_frames: int,
    image_size: int,
    max_skipped: float = 0.5,
) -> Builder:
    """The builder of a data set's prepared records; the arguments are those of `data.load`."""
    root, path = _data_dir(data_dir), _path(name)
    if name in _GENERATED:
        return _prepare_generated(name, root, num_frames, image_size)
    if _is_path(name) and not tfds_records.below(path):
        return _prepare_folder(path, root, num_frames, image_size, max_skipped)
    builders = _prepared(name, root)
    if name == "moments_in_time":
        builders = _plain(builders, root)
    return tfds_records.choose(builders, num_frames, image_size)


def holds_images(name: str, data_dir: str | Path | None = None) -> bool:
    """Whether a data set holds single images and no clips. Prepares nothing.

    Raises:
      DataError: there is no such data set; says what there is.
    """
    root, path = _data_dir(data_dir), _path(name)
    if name in _GENERATED:
        return False
    if _is_path(name) and not tfds_records.below(path):
        from data_builders.video_folder import folder

        return folder.list_folder(path).are_images
    return all(tfds_records.shape(builder)[0] == 1 for builder in _prepared(name, root))


def _prepared(name: str, root: Path) -> list[Builder]:
    """The builders of what TFDS has prepared under a name in `root`, or at a path."""
    if _is_path(name):
        return tfds_records.prepared(_path(name), "Prepare it again with `tfds build`.")
    if name.split("/")[0] in KNOWN_DATASETS or (name and (root / name).is_dir()):
        return tfds_records.prepared(root / name, _advice(name, root))
    known = " or ".join(nearest_first(name, KNOWN_DATASETS))
    raise DataError(
        f"Unknown data set {name!r}; use {known}, another one that TFDS has prepared in {root} "
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
    default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")  # as TFDS has it
    return _path(str(data_dir or default))


def _path(name: str) -> Path:
    return Path(os.path.expanduser(name))  # Path's own raises an error for an unknown user


def _is_path(name: str) -> bool:
    """Whether a data set is named by a path: "/x", "./x", "x/" or something that exists.

    A known name is none, even where a folder is called so: "./moments_in_time" is.
    """
    if not name or name.split("/")[0] in KNOWN_DATASETS:
        return False
    return name.startswith((os.sep, ".", "~")) or name.endswith(os.sep) or Path(name).exists()


def _advice(name: str, root: Path) -> str:
    dataset, _, config = name.partition("/")
    if dataset in _GENERATED:
        return f"Use {dataset}, which is generated on first use."
    if dataset == "moments_in_time":
        option = f"--config={config} " if config else ""
        return (
            f"Prepare it with `tfds build data_builders/moments_in_time {option}"
            f"--manual_dir=<the archive's folder> --data_dir={root}` "
            "(see data_builders/moments_in_time/README.md)."
        )
    return f"Prepare it with `tfds build {name} --file_format=array_record --data_dir={root}`."


def _prepare_generated(name: str, data_dir: Path, num_frames: int, image_size: int) -> Builder:
    module = importlib.import_module(f"data_builders.{name}.{name}_dataset_builder")

    def open_config(config: Any) -> Builder:
        with tfds_records.quiet(), tfds_records.damage_reported(data_dir / name):
            return module.Builder(data_dir=data_dir, config=config)

    # The choice is among all sizes, not the prepared ones, or results would differ by machine.
    configs = module.Builder.BUILDER_CONFIGS
    builder = tfds_records.choose(
        [open_config(config) for config in configs], num_frames, image_size
    )
    return _prepare_once(builder, name, lambda: open_config(builder.builder_config))


def _prepare_folder(
    path: Path, data_dir: Path, num_frames: int, image_size: int, max_skipped: float
) -> Builder:
    """The records of a folder of clips or images: those made before, unless a file has changed."""
    from data_builders.video_folder import video_folder_dataset_builder as video_folder

    config = video_folder.config_of(path, num_frames, image_size, max_skipped)

    def open_config() -> Builder:
        # TFDS warns of every config that is not in a builder's list.
        with (
            tfds_records.quiet(logging.ERROR),
            tfds_records.damage_reported(data_dir / "video_folder"),
        ):
            return video_folder.Builder(data_dir=data_dir, config=config)

    return _prepare_once(open_config(), str(path), open_config)


def _prepare_once(builder: Builder, name: str, reopen: Callable[[], Builder]) -> Builder:
    """Prepares the records unless they are there; says so, and what was left out."""
    if Path(builder.data_dir).exists():
        return builder
    print(f"Preparing {name} in {builder.data_dir}, once.", flush=True)
    try:
        with tfds_records.quiet():
            builder.download_and_prepare()
    except OSError:
        if not Path(builder.data_dir).exists():
            raise
        # Another process prepared the same records first, and took the name.
    for summary in sorted(Path(builder.data_dir).glob("summary-*.txt")):
        print(summary.read_text().strip(), flush=True)
    return reopen()
