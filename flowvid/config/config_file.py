"""A run's configuration in config.json and in its checkpoints."""

import dataclasses
import json
import pathlib
from typing import Any

import flowvid
from flowvid.conditioning.table import CONTEXTS
from flowvid.config import dataset_names
from flowvid.config.making import sizes_of
from flowvid.config.presets import RESUMABLE
from flowvid.config.schema import Config
from flowvid.errors import ConfigError
from flowvid.flows.table import FLOWS

# The version of what a run's folder holds: parameters, train state and configuration. It rises with
# every change that makes runs of earlier versions unreadable. Version 1 carried no number.
FORMAT_VERSION = 10
# Fields that runs of this format version may lack, with the values that they stand for.
LATER_FIELDS: dict[str, Any] = {}
# The same of the settings of flows and context encoders, by their names.
LATER_SETTINGS: dict[str, dict[str, Any]] = {}


def to_dict(config: Any, label_names: tuple[str, ...]) -> dict[str, Any]:
    """Returns a run's configuration and labels as config.json and checkpoints hold them."""
    found = dataclasses.asdict(config)
    found |= {name: size.plain for name, size in sizes_of(found).items()}
    return found | {"label_names": list(label_names), "format_version": FORMAT_VERSION}


class OtherVersionError(ConfigError):
    """A run's folder of another format version."""


def check_version(saved: dict[str, Any], where: Any) -> None:
    """Checks that a saved configuration is of this version's format.

    Raises:
        OtherVersionError: if it is not, naming both versions.
    """
    version = saved.get("format_version", 1)
    if version != FORMAT_VERSION:
        raise OtherVersionError(
            f"{where} is of format version {version}, but flowvid {flowvid.__version__} reads "
            f"version {FORMAT_VERSION}: train again in another --workdir, or use the version of "
            "flowvid that wrote it."
        )


def from_dict(saved: Any, where: Any = "the configuration") -> tuple[Config, tuple[str, ...]]:
    """Returns the configuration and the labels' names that `to_dict` was given.

    Args:
        saved: what `to_dict` returned.
        where: what an error message calls it.

    Raises:
        ConfigError: when it is of another format version, or fields are missing, unknown or
            unusable.
    """
    try:
        check_version(saved, where)
        values = {k: v for k, v in saved.items() if k not in ("label_names", "format_version")}
        values = LATER_FIELDS | values
        values |= sizes_of(values)
        for part, table in (("flow", FLOWS), ("context", CONTEXTS)):
            settings = LATER_SETTINGS.get(saved[part], {}) | saved[f"{part}_settings"]
            values[f"{part}_settings"] = table[saved[part]](**settings)
        return Config(**values), tuple(saved["label_names"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{where} is not a configuration of this version of flowvid: {error}"
        ) from error


def differences(some: dict[str, Any], others: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns the fields of two `to_dict`s that differ and that cannot change on resuming.

    Fields of nested settings are returned by their own names, as their flags are called. The
    fingerprint of the dataset is not compared: training checks it, with a message of its own.
    """
    some, others = _flattened(some), _flattened(others)
    both = {name: (some.get(name), others.get(name)) for name in some | others}
    ignored = (*RESUMABLE, "dataset_fingerprint")
    return {n: values for n, values in both.items() if n not in ignored and values[0] != values[1]}


def _flattened(saved: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in saved.items():
        found |= value if isinstance(value, dict) else {name: value}
    return found


def write(config: Any, label_names: tuple[str, ...], workdir: pathlib.Path) -> None:
    """Writes `workdir`/config.json, in one move."""
    text = json.dumps(to_dict(config, label_names), indent=2)
    temporary = workdir / "config.json.tmp"
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(workdir / "config.json")


def read(workdir: pathlib.Path) -> tuple[Config, tuple[str, ...]]:
    """Reads what `write` wrote.

    Raises:
        ConfigError: when it cannot be used.
    """
    path = workdir / "config.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(saved, dict):
            raise ConfigError(f"it holds {saved!r:.40}, and no object")
        if "objective" not in saved:
            return from_dict(dataset_names.of_run(saved, workdir), path)
    except OtherVersionError:
        raise
    except ValueError as error:  # ConfigErrors among them
        raise ConfigError(
            f"{path} cannot be read as a run's configuration: {error}. If the run has checkpoints, "
            "delete this file: they hold it, too."
        ) from error
    raise ConfigError(
        f"{workdir} holds a run of the GAN: `python -m flowvid.gan.sample` samples from it and "
        "`python -m experiments.compare` compares it."
    )
