"""Results of an unfinished evaluation, kept on disk so that it can be resumed."""

import hashlib
import json
import pathlib
import zipfile
import zlib
from typing import Any

import av
import jax
import numpy as np

import flowvid
from flowvid.config import config_file
from flowvid.data import datasets
from flowvid.parallel import processes
from flowvid.video.model import Model

VERSIONS = {"flowvid": flowvid.__version__, "jax": jax.__version__} | {
    name: list(version) for name, version in av.library_versions.items()
}


def identify_model(model: Model) -> str:
    """Returns a digest of a model's configuration, labels and parameters."""
    digest = hashlib.sha256(
        json.dumps(config_file.to_dict(model.config, model.label_names)).encode()
    )
    for leaf in jax.tree.leaves(model.params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def identify_dataset(dataset: datasets.Dataset) -> list[Any]:
    """Returns what identifies a split, as JSON has it.

    The fingerprint changes with the records. Datasets in different folders may have the same name
    and equal records but for their pixels, so a digest of the first and the last clip is included.
    """
    digest = hashlib.sha256()
    for index in (0, len(dataset) - 1):
        item = dataset[index]
        digest.update(f"{item['id']} {item['label']} ".encode() + item["video"].tobytes())
    return [
        dataset.name,
        dataset.split,
        len(dataset),
        dataset.num_frames,
        dataset.image_size.plain,
        dataset.label_names,
        dataset.fingerprint,
        digest.hexdigest(),
    ]


class PartialResults:
    """Results of the first videos of a split, in a file that states what they depend on.

    Every process reads the file; the first process alone writes it.
    """

    def __init__(self, folder: pathlib.Path, identity: dict[str, Any]) -> None:
        """Chooses the file.

        Args:
            folder: where results are kept.
            identity: everything that the results depend on, as JSON has it.
        """
        self.identity = json.dumps(identity | {"versions": VERSIONS}, sort_keys=True)
        name = hashlib.sha256(self.identity.encode()).hexdigest()[:16]
        self.folder, self.path = folder, folder / f"{name}.npz"

    def read(self) -> dict[str, np.ndarray]:
        """Returns arrays with an entry per finished video, the same in every process.

        The dictionary is empty where there is no file, or it is damaged or of another identity.
        """
        arrays: dict[str, np.ndarray] = {}
        if self.path.exists():
            try:
                with self.path.open("rb") as opened, np.load(opened) as file:
                    arrays = dict(file)
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
                arrays = {}  # truncated or damaged
        if arrays.pop("identity", None) != self.identity:
            arrays = {}
        done = len(next(iter(arrays.values()))) if arrays else 0
        done = -processes.any_process(-done)  # the smallest number in any process
        return {name: values[:done] for name, values in arrays.items()} if done else {}

    def write(self, arrays: dict[str, np.ndarray]) -> None:
        """Replaces the file atomically."""
        if processes.is_first():
            self.folder.mkdir(exist_ok=True)
            temporary = self.path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                np.savez(file, **{"identity": np.array(self.identity)} | arrays)  # type: ignore[arg-type]
            temporary.replace(self.path)
