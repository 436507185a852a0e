"""Describes the machine that a number was measured on."""

import os
import pathlib
import platform


def describe() -> str:
    """Returns the number of cores, and the processor's name where Linux gives it."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else platform.machine()}"
