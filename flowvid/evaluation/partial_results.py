"""Results of an unfinished evaluation, on disk, so that it can be resumed."""

import hashlib
import json
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from flowvid.parallel import processes


class PartialResults:
    """Results of the first videos of a split, in a file that says what they are of.

    Every process reads it, the first one alone writes it.
    """

    def __init__(self, folder: pathlib.Path, identity: dict[str, Any]) -> None:
        """`identity` is all that the results depend on, as JSON has it."""
        self.identity = json.dumps(identity, sort_keys=True)
        name = hashlib.sha256(self.identity.encode()).hexdigest()[:16]
        self.folder, self.path = folder, folder / f"{name}.npz"

    def read(self) -> dict[str, np.ndarray]:
        """Arrays of the videos that are done, the same number in every process; {} for none."""
        arrays: dict[str, np.ndarray] = {}
        if self.path.exists():
            try:
                with np.load(self.path) as file:
                    arrays = dict(file)
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
                arrays = {}  # cut off or damaged: done again
        if arrays.pop("identity", None) != self.identity:
            arrays = {}
        done = len(next(iter(arrays.values()))) if arrays else 0
        done = -processes.any_process(-done)  # the least that any process sees
        return {name: values[:done] for name, values in arrays.items()} if done else {}

    def write(self, arrays: dict[str, np.ndarray]) -> None:
        """Keeps these instead, in one move."""
        if processes.is_first():
            self.folder.mkdir(exist_ok=True)
            temporary = self.path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                np.savez(file, **{"identity": np.array(self.identity)} | arrays)  # type: ignore[arg-type]
            temporary.replace(self.path)
