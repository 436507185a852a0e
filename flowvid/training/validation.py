"""Validation during training, on the first videos of the held-out split."""

from collections.abc import Callable

import numpy as np

from flowvid import random_keys
from flowvid.config.schema import Config
from flowvid.data import datasets
from flowvid.evaluation import scoring
from flowvid.training.progress import Reporter
from flowvid.training.trainer import Trainer


class Validation:
    """Scores the first videos of the held-out split during training."""

    def __init__(self, config: Config, dataset: datasets.Dataset) -> None:
        self.config, self.dataset = config, dataset
        self.num_videos = min(config.eval_videos, len(dataset))
        self.step = scoring.evaluator(config, config.metric)
        self.noise = scoring.Noise(config.seed, random_keys.VALIDATION)

    def __call__(
        self, trainer: Trainer, reporter: Reporter, stopped: Callable[[], bool]
    ) -> float | None:
        """Scores the parameters of `trainer` and reports the bits per dimension of each model.

        Args:
            trainer: holds the parameters and the step.
            reporter: writes the results.
            stopped: asked before each batch; returns whether to give the validation up.

        Returns:
            The mean bits per dimension over all frames of a video, or None if it was stopped.

        Raises:
            TrainingError: if the bits per dimension are impossible.
        """
        scores = scoring.score(
            self.step,
            trainer.params(),
            self.noise,
            self.dataset,
            self.config.batch_size,
            self.num_videos,
            "validating",
            stopped=stopped,
        )
        if scores is None:
            return None
        for name in self.config.models:
            frames = getattr(scores, name).reshape(self.num_videos, -1)
            reporter.validated(trainer.step, name, frames.mean(axis=1))
        return float(np.mean(np.concatenate([scores.head[:, None], scores.tail], axis=1)))
