"""Errors that a user can fix: each message is one line that says what to do."""

import difflib
from collections.abc import Sequence


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
    """Training that a signal ended early, after its state was saved."""

    def __init__(self, message: str, number: int) -> None:
        """Keeps the number of the signal, for the exit code."""
        super().__init__(message)
        self.number = number


def nearest_first(name: str, known: Sequence[str]) -> list[str]:
    """Returns all known names, those most similar to the given one first."""
    return sorted(known, key=lambda other: -difflib.SequenceMatcher(None, name, other).ratio())
