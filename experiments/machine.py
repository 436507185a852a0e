"""Which machine a figure was measured on."""

import os
import pathlib
import platform


def describe() -> str:
    """Its cores, and the processor's name where Linux tells it."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else platform.machine()}"
