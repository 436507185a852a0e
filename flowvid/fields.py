"""Dataclasses whose fields are command-line flags, with help, choices and limits at the field.

A field with a help text is a flag of the entry point that calls `define_flags`; presets hold the
defaults. This module does not import JAX, so that `--help` answers at once.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from flowvid import paths
from flowvid.errors import ConfigError
from flowvid.sizes import Size

Presets = dict[str, dict[str, Any]]


def field(group: str, help_text: str, *, choices: tuple[str, ...] = (), low: int = 1) -> Any:
    """Returns a dataclass field that is a flag.

    Args:
        group: the heading under which `--help` lists it.
        help_text: what it does.
        choices: its possible values, if it is a choice.
        low: its smallest value, if it is a number.
    """
    return dataclasses.field(
        metadata={"help": f"{group}: {help_text}", "choices": choices, "low": low}
    )


def check(config: Any) -> None:
    """Checks every field of a dataclass against its choices and its limit.

    Raises:
        ConfigError: naming the field and its possible values.
    """
    for of in dataclasses.fields(config):
        value, limits = getattr(config, of.name), of.metadata
        if limits.get("choices"):
            check_choice(of.name, value, limits["choices"])
        if isinstance(value, bool):
            continue
        if isinstance(value, int | float) and value < limits.get("low", value):
            raise ConfigError(f"--{of.name}={value} must be at least {limits['low']}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"--{of.name}={value} must be a finite number.")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Checks that a value is one of the choices.

    Raises:
        ConfigError: naming the field and the choices.
    """
    if value not in choices:
        raise ConfigError(f"--{name}={value} is unknown: use one of {', '.join(choices)}.")


def check_halvings(size: Size, levels: int, name: str = "image_size") -> None:
    """Checks that frames, or windows of them, can be halved once per level.

    Raises:
        ConfigError: naming the size, by the name of its flag, and the levels.
    """
    if any(side % 2**levels for side in size):
        raise ConfigError(
            f"--{name}={size} must be divisible by 2^levels = {2**levels}, because each "
            f"of the {levels} levels halves it: use a multiple of {2**levels}, or fewer --levels."
        )


class Settings:
    """The base of dataclasses that hold the settings of a flow or an encoder; it checks them."""

    def __post_init__(self) -> None:
        """Checks each field by itself.

        Raises:
            ConfigError: naming the field and its possible values.
        """
        check(self)

    def check(self, image_size: Size, levels: int) -> None:
        """Checks that each level can halve the frame.

        Raises:
            ConfigError: naming both numbers.
        """
        check_halvings(image_size, levels)


def define_flags(config: type, presets: Presets) -> None:
    """Defines a flag for every field of a dataclass that has a help text.

    The help ends with the defaults of the presets, `[first | others: value]`.
    """
    flags.disclaim_key_flags()  # they are the entry point's, in its --help
    first = next(iter(presets))
    for of in dataclasses.fields(config):
        if "help" not in of.metadata:
            continue
        help_text = of.metadata["help"]
        if of.name != "preset":
            help_text += f" [{_defaults(of.name, presets)}]"
        if of.name == "preset":
            flags.DEFINE_enum("preset", None, of.metadata["choices"], f"{help_text} [{first}]")
        elif of.metadata["choices"]:
            flags.DEFINE_enum(of.name, None, of.metadata["choices"], help_text)
        elif of.type in (Size, Size | None):
            flags.DEFINE(_SizeParser(of.name), of.name, None, help_text, serializer=_as_text())
        elif "int" in str(of.type):
            flags.DEFINE_integer(of.name, None, help_text)
        elif "float" in str(of.type):
            flags.DEFINE_float(of.name, None, help_text)
        elif of.type is bool:
            flags.DEFINE_bool(of.name, None, help_text)
        else:
            flags.DEFINE_string(of.name, None, help_text)


def _defaults(name: str, presets: Presets) -> str:
    """Returns a field's default in the first preset, and what others have instead, for its help."""
    by_value: dict[str, list[str]] = {}
    for preset, values in presets.items():
        value = values.get(name)
        by_value.setdefault("-" if value is None else str(value), []).append(preset)
    (first, _), *others = by_value.items()
    return " | ".join([first, *(f"{', '.join(names)}: {text}" for text, names in others)])


class _SizeParser(flags.ArgumentParser):
    """Parses the value of a flag as the size of a frame."""

    def __init__(self, name: str) -> None:
        self._name = name

    def parse(self, argument: Any) -> Size:
        """Returns the size."""
        return Size.of(argument, self._name)

    def flag_type(self) -> str:
        """Returns how --helpxml names the type."""
        return "size"


class _PathParser(flags.ArgumentParser):
    """Parses the value of a flag as a path."""

    def parse(self, argument: str | os.PathLike[str]) -> pathlib.Path:
        """Returns the path."""
        return paths.expand(argument)

    def flag_type(self) -> str:
        """Returns how --helpxml names the type."""
        return "path"


def path_flag(
    name: str, default: str | None, help_text: str, required: bool = False
) -> flags.FlagHolder[Any]:
    """Defines and returns a flag whose value is a `Path` or None."""
    flags.disclaim_key_flags()
    return flags.DEFINE(
        _PathParser(), name, default, help_text, serializer=_as_text(), required=required
    )


def size_flag(name: str, help_text: str) -> flags.FlagHolder[Any]:
    """Defines and returns a flag whose value is a `Size` or None."""
    return flags.DEFINE(_SizeParser(name), name, None, help_text, serializer=_as_text())


def numbers(name: str, texts: Sequence[str] | None) -> list[float] | float | None:
    """Returns the value of a list flag as a number, or several; None for None.

    Raises:
        ConfigError: naming the flag, if one is not a number.
    """
    if texts is None:
        return None
    try:
        found = [float(text) for text in texts]
    except ValueError as error:
        raise ConfigError(
            f"--{name}={','.join(texts)}: use a number, or several with commas."
        ) from error
    return found if len(found) > 1 else found[0]


def _as_text() -> Any:
    return flags.ArgumentSerializer()


def given(config: type) -> dict[str, Any]:
    """Returns the fields of a dataclass that the command line sets, with their values."""
    values = {
        of.name: flags.FLAGS[of.name].value for of in dataclasses.fields(config) if of.metadata
    }
    return {name: value for name, value in values.items() if value is not None}


def refuse_changes(
    saved: dict[str, Any], given: dict[str, Any], resumable: tuple[str, ...]
) -> None:
    """Refuses to resume a run with flags that differ from its configuration.

    Args:
        saved: the run's fields by name.
        given: those that the command line sets.
        resumable: names of fields that may change when a run is resumed.

    Raises:
        ConfigError: naming every field that differs.
    """
    differing = [
        f"--{name}={value} (the run has {saved.get(name)})"
        for name, value in given.items()
        if name not in resumable and value != saved.get(name)
    ]
    if differing:
        raise ConfigError(
            "the workdir holds a run with another configuration: "
            + ", ".join(differing)
            + "; use another --workdir, or leave these flags out to resume that run."
        )
