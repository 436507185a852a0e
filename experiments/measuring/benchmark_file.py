"""The JSON file of `experiments.benchmark`, to which later sections are added."""

import json
import pathlib
from typing import Any

from experiments.measuring import machine
from flowvid.errors import ConfigError


def begin(path: pathlib.Path | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the report to add sections to, of this machine and these settings.

    Args:
        path: the file, which may hold earlier sections; None for a report without a file.
        settings: the configuration of the models.

    Raises:
        ConfigError: when the file's sections were measured on another machine or with other
            settings, so that they would be shown as what they are not.
    """
    report: dict[str, Any] = {"machine": machine.describe(), "settings": settings}
    if path is None or not path.exists():
        return report
    saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, value in report.items():
        if saved.get(name) != value:
            raise ConfigError(
                f"--out={path} holds measurements with {name} {saved.get(name)}, but these are "
                f"with {value}: write to another file."
            )
    return saved
