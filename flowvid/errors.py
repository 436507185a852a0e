"""Errors that a user can fix: each message is one line that says what to do."""

import difflib
import operator
from collections.abc import Sequence
from typing import Any


class UserError(ValueError):
    """An error that the entry points show without a traceback, with exit code 1."""


class ConfigError(UserError):
    """A setting or a workdir that cannot be used."""


class DataError(UserError):
    """A dataset that is missing or does not fit."""


class ClipError(UserError):
    """A clip that cannot be read or written; the message names the path and the reason."""


class TrainingError(UserError):
    """Training that cannot continue."""


class Stopped(UserError):
    """Work that a signal ended early, with everything in order: a run was saved, for example."""

    def __init__(self, message: str, number: int) -> None:
        """Keeps the number of the signal, for the exit code."""
        super().__init__(message)
        self.number = number


def whole_number(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Returns the value of an argument as an int.

    Raises:
        ConfigError: naming the argument, if it is not a whole number from `low` to `high`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if number < low or (high is not None and number > high):
        end = "on" if high is None else f"to {high}"
        raise ConfigError(f"{name}={value!r}: use a whole number from {low} {end}.")
    return number


def nearest_first(name: str, known: Sequence[str]) -> list[str]:
    """Returns all known names, those most similar to the given one first."""
    return sorted(known, key=lambda other: -difflib.SequenceMatcher(None, name, other).ratio())
