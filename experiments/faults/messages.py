"""What `flowvid.train` prints and logs about a fault, in its own words, which the drill expects."""

GIVEN_UP = "error: training stops at step"
FULL_DISK = "error: no space is left on the disk of"
SKIPPED, RESTORED = "non-finite", "restored"  # events in incidents/log.jsonl


def stopped(signal_name: str, step: int) -> str:
    """Returns the message of a run that a signal has stopped."""
    return f"{signal_name}: stopped and saved at step {step} of"


def damaged(step: int) -> tuple[str, str]:
    """Returns the two parts of the warning about a checkpoint that cannot be read."""
    return f"The checkpoint of step {step} in", "cannot be read"


def resumed(step: int) -> str:
    """Returns the message of a run that is resumed."""
    return f"Resuming from step {step} of"


def second_process(workdir: object) -> str:
    """Returns the error of a second process in the same folder."""
    return f"error: another process is training in {workdir}"


def other_value(name: str, asked: int, saved: int) -> str:
    """Returns what the error about another configuration says of one field."""
    return f"--{name}={asked} (the run has {saved})"
