"""Names of datasets: which are known, which are paths, and the absolute paths that runs keep."""

import functools
import os
from pathlib import Path
from typing import Any

from flowvid import paths

GENERATED = ("moving_shapes", "moving_digits")
KNOWN = (*GENERATED, "moments_in_time", "celeb_a")


def is_path(name: str) -> bool:
    """Returns whether a name is a path: "/x", "./x", "x/" or something that exists.

    A known name is not a path, even if a folder has that name; "./moments_in_time" is.
    """
    return not _is_known(name) and (_looks_like_path(name) or Path(name).exists())


def _is_known(name: str) -> bool:
    return not name or name.split("/")[0] in KNOWN


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
    the run and in those around it, the innermost first. A line says what was found.

    Args:
      saved: the settings by name, as in `absolute`.
      workdir: the folder of the run.
    """
    found = dict(saved)
    name, data_dir = saved.get("dataset") or "", saved.get("data_dir")
    if not _is_known(name) and not os.path.isabs(paths.expand(name)):
        place = _beside(name, workdir)
        if place is None and is_path(name):  # of the current folder, which is another one
            place = workdir.absolute().parent / name
        found["dataset"] = name if place is None else str(place)
    if data_dir and not os.path.isabs(paths.expand(data_dir)):
        found["data_dir"] = str(_beside(data_dir, workdir) or workdir.absolute().parent / data_dir)
    for key in ("dataset", "data_dir"):
        if found.get(key) != saved.get(key):
            _report(workdir, key, saved[key], found[key])
    return found


def _beside(path: str, workdir: Path) -> Path | None:
    """Returns the innermost folder around a run's that holds a relative path, with that path."""
    run = workdir.absolute()
    for folder in (run, *run.parents):
        if (folder / path).exists():
            return Path(os.path.abspath(folder / path))
    return None


@functools.cache  # once per process
def _report(workdir: Path, key: str, saved: str, found: str) -> None:
    print(f"The run in {workdir} has --{key}={saved}, a relative path: taken as {found}.")
