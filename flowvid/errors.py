"""What the user can mend: errors whose message is one line that says what to do."""


class UserError(ValueError):
    """Shown by the entry points without a traceback, with exit code 1."""


class ConfigError(UserError):
    """A setting or a workdir that cannot be used."""


class DataError(UserError):
    """A data set that cannot be had as asked."""


class ClipError(UserError):
    """A clip that cannot be read or written; the message names the path and the reason."""


class TrainingError(UserError):
    """Training cannot go on."""


class Stopped(UserError):
    """A signal ended training early; all that was done is saved."""

    def __init__(self, message: str, number: int) -> None:
        """`number`: of the signal."""
        super().__init__(message)
        self.number = number
