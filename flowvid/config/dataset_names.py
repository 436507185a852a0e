"""Names of datasets: which are known, which are paths, and the absolute paths that runs keep."""

import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

from flowvid import paths

GENERATED = ("moving_shapes", "moving_digits", "stochastic_digits")
KNOWN = (*GENERATED, "moments_in_time", "celeb_a")
# The folders of a run in which flowvid writes; those of earlier versions carry no marker.
_OF_RUN = ("checkpoints", "samples", "continued", "previews")


def is_path(name: str) -> bool:
    """Returns whether a name is a path: "/x", "./x", "x/" or something that exists.

    The name of a dataset is not a path, even if a folder has that name; "./mnist" is. A line says
    so where there is such a folder.
    """
    if not name or _looks_like_path(name):
        return bool(name)
    if not is_dataset(name):
        return Path(name).exists()
    if Path(name).exists() and not _holds_output_alone(Path(name)):
        say_once(
            f"--dataset={name} is the dataset of that name, not the folder: --dataset=./{name} is "
            "the folder."
        )
    return False


def is_dataset(name: str) -> bool:
    """Returns whether a name is that of a dataset of flowvid or TFDS, prepared or not."""
    first = name.split("/")[0]
    return bool(first) and (first in KNOWN or _is_of_tfds(first))


def _is_of_tfds(name: str) -> bool:
    """Returns whether TFDS has a builder of that name; importing TFDS to ask would take long."""
    package = importlib.util.find_spec("tensorflow_datasets")
    folders = [Path(place) for place in (package and package.submodule_search_locations) or ()]
    return any(
        (folder / "datasets" / name).is_dir() or (folder / f"url_checksums/{name}.txt").exists()
        for folder in folders
    )


def _looks_like_path(name: str) -> bool:
    return name.startswith((os.sep, ".", "~")) or name.endswith(os.sep)


def absolute(given: dict[str, Any]) -> dict[str, Any]:
    """Returns the given settings of a run with absolute paths, for use in any current folder.

    Args:
      given: settings by name, of which `dataset` (where it is a path) and `data_dir` are paths.
    """
    found = dict(given)
    if is_path(found.get("dataset") or ""):
        found["dataset"] = os.path.abspath(paths.expand(found["dataset"]))
    if found.get("data_dir"):
        found["data_dir"] = os.path.abspath(paths.expand(found["data_dir"]))
    return found


def of_run(saved: dict[str, Any], workdir: Path) -> dict[str, Any]:
    """Returns the saved settings of a run with absolute paths.

    Earlier versions saved paths as they were typed. A relative path is looked for in the folder of
    the run and in those around it, the innermost first, except for what flowvid wrote. A line says
    what was found.

    Args:
      saved: the settings by name, as in `absolute`.
      workdir: the folder of the run.
    """
    found = dict(saved)
    name, data_dir = saved.get("dataset") or "", saved.get("data_dir")
    if data_dir and not os.path.isabs(paths.expand(data_dir)):
        found["data_dir"] = str(_beside(data_dir, workdir) or workdir.absolute().parent / data_dir)
    if name and not os.path.isabs(paths.expand(name)):
        place = _beside(name, workdir)
        if not _looks_like_path(name) and _is_prepared_or_known(name, found.get("data_dir")):
            if place is not None:
                say_once(f"The run in {workdir} has --dataset={name}: not taken as {place}.")
        elif place is not None:
            found["dataset"] = str(place)
        elif is_path(name):  # of the current folder, which is another one
            found["dataset"] = str(workdir.absolute().parent / name)
    for key in ("dataset", "data_dir"):
        if found.get(key) != saved.get(key):
            say_once(
                f"The run in {workdir} has --{key}={saved[key]}, a relative path: taken as "
                f"{found[key]}."
            )
    return found


def _is_prepared_or_known(name: str, data_dir: str | None) -> bool:
    folder = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return is_dataset(name) or (paths.expand(folder) / name).is_dir()


def _beside(path: str, workdir: Path) -> Path | None:
    """Returns the innermost folder around a run's that holds a relative path, with that path."""
    run = workdir.absolute()
    for folder in (run, *run.parents):
        place = Path(os.path.abspath(folder / path))
        if place.exists() and not _is_output_of(run, place):
            return place
    return None


def _is_output_of(run: Path, place: Path) -> bool:
    """Returns whether a path is that of a run or of its output, or holds nothing but output."""
    if place.is_relative_to(run):
        inside = place.relative_to(run).parts
        if not inside or inside[0] in _OF_RUN:
            return True
    return _holds_output_alone(place)


def _holds_output_alone(folder: Path) -> bool:
    """Returns whether everything visible at or below a folder was written by flowvid."""
    if paths.is_output(folder):
        return True
    if folder.is_symlink() or not folder.is_dir():
        return False
    try:
        visible = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return False
    return bool(visible) and all(map(_holds_output_alone, visible))


@functools.cache
def say_once(text: str) -> None:
    """Prints a line, once per process."""
    print(text, flush=True)
