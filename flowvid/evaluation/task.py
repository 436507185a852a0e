"""What an evaluation is of, and where its intermediate results are kept."""

import dataclasses
import functools
import pathlib
from typing import Any

from jaxtyping import PyTree

from flowvid.data import datasets
from flowvid.evaluation import baselines, partial_results
from flowvid.evaluation.partial_results import PartialResults
from flowvid.parallel.devices import replicate
from flowvid.video.model import Model


@dataclasses.dataclass(frozen=True)
class Task:
    """What is evaluated, and where intermediate results are kept."""

    model: Model
    train: datasets.Dataset
    split: datasets.Dataset
    num_videos: int
    seed: int
    keep_in: pathlib.Path | None

    @functools.cached_property
    def params(self) -> PyTree:
        """The model's parameters on all devices."""
        return replicate(self.model.params)

    @functools.cached_property
    def identities(self) -> dict[str, Any]:
        """What results may depend on, by its name."""
        return {
            "model": partial_results.identify_model(self.model),
            "noise": self.seed,
            "train": partial_results.identify_dataset(self.train),
            "videos": [partial_results.identify_dataset(self.split), self.num_videos],
            "baselines": baselines.SETTINGS,
        }

    def kept(self, result: str, *names: str, **others: Any) -> PartialResults | None:
        """Returns the file of a result, which depends on the identities of `names` and on `others`.

        It is None where nothing is kept.
        """
        if self.keep_in is None:
            return None
        identity = {name: self.identities[name] for name in names}
        return PartialResults(self.keep_in, identity | others | {"result": result})
