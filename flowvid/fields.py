"""Dataclasses whose fields are flags: help, choices and limits are said once, where a field is.

A field that carries a help text is a flag of its entry point; presets give the defaults.
"""

import dataclasses
import math
from typing import Any

from absl import flags

from flowvid.errors import ConfigError

Presets = dict[str, dict[str, Any]]


def field(group: str, help_text: str, *, choices: tuple[str, ...] = (), low: int = 1) -> Any:
    """A dataclass field with its help text, and what it may be."""
    return dataclasses.field(
        metadata={"help": f"{group}: {help_text}", "choices": choices, "low": low}
    )


def check(config: Any) -> None:
    """Checks every field of a dataclass against its choices and its limit.

    Raises:
        ConfigError: naming the field and what it may be.
    """
    for of in dataclasses.fields(config):
        value, limits = getattr(config, of.name), of.metadata
        if limits.get("choices") and value not in limits["choices"]:
            raise ConfigError(
                f"--{of.name}={value} is unknown: use one of {', '.join(limits['choices'])}."
            )
        if isinstance(value, bool):
            continue
        if isinstance(value, int | float) and value < limits.get("low", value):
            raise ConfigError(f"--{of.name}={value} must be at least {limits['low']}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"--{of.name}={value} must be a finite number.")


def define_flags(config: type, presets: Presets) -> None:
    """Defines a flag for every field of a dataclass that has a help text."""
    flags.disclaim_key_flags()  # they are the entry point's, in its --help
    first = next(iter(presets))
    for of in dataclasses.fields(config):
        if "help" not in of.metadata:
            continue
        help_text = of.metadata["help"]
        if of.name != "preset":
            values = [preset.get(of.name) for preset in presets.values()]
            names = [f" | {name}: " for name in presets][1:]
            texts = ["-" if value is None else str(value) for value in values]
            rest = "".join(n + t for n, t in zip(names, texts[1:], strict=True))
            help_text += f" [{texts[0]}{'' if len(set(texts)) == 1 else rest}]"
        if of.name == "preset":
            flags.DEFINE_enum("preset", None, of.metadata["choices"], f"{help_text} [{first}]")
        elif of.metadata["choices"]:
            flags.DEFINE_enum(of.name, None, of.metadata["choices"], help_text)
        elif "int" in str(of.type):
            flags.DEFINE_integer(of.name, None, help_text)
        elif of.type is float:
            flags.DEFINE_float(of.name, None, help_text)
        elif of.type is bool:
            flags.DEFINE_bool(of.name, None, help_text)
        else:
            flags.DEFINE_string(of.name, None, help_text)


def given(config: type) -> dict[str, Any]:
    """The fields of a dataclass that the command line sets."""
    values = {
        of.name: flags.FLAGS[of.name].value for of in dataclasses.fields(config) if of.metadata
    }
    return {name: value for name, value in values.items() if value is not None}


def refuse_changes(saved: Any, asked: dict[str, Any], resumable: tuple[str, ...]) -> None:
    """Refuses to go on with a saved run under flags that a run cannot change on its way.

    Raises:
        ConfigError: naming every such field.
    """
    differing = [
        f"--{name}={value} (the run has {getattr(saved, name)})"
        for name, value in asked.items()
        if name not in resumable and value != getattr(saved, name)
    ]
    if differing:
        raise ConfigError(
            "the workdir holds a run of another configuration: "
            + ", ".join(differing)
            + "; use another --workdir, or leave these flags out to go on with that run."
        )
