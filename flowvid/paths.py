"""Paths that users give: home folders, caches, output folders."""

from pathlib import Path

MARKER = ".flowvid-output"  # a file in folders that flowvid made


def is_output(folder: Path) -> bool:
    """Returns whether flowvid made a folder."""
    return (folder / MARKER).exists()
