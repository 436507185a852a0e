"""Validation during training, on the first videos of the held-out split."""

import math
from collections.abc import Callable

import numpy as np
from absl import logging

from flowvid import random_keys
from flowvid.config.schema import Config
from flowvid.data import datasets
from flowvid.evaluation import scoring
from flowvid.training.progress import Reporter
from flowvid.training.trainer import Trainer


class Validation:
    """Held-out bits per dimension during training, on the first videos of the split."""

    def __init__(self, config: Config, dataset: datasets.Dataset) -> None:
        self.config, self.dataset = config, dataset
        self.num_videos = min(config.eval_videos, len(dataset))
        self.step = scoring.evaluator(config, config.metric, config.seed, random_keys.VALIDATION)

    def __call__(
        self, trainer: Trainer, reporter: Reporter, stopped: Callable[[], bool]
    ) -> float | None:
        """Scores, writes and shows the cross entropy of each model.

        Returns:
            Bits per dimension over all frames of a video; None when it was `stopped`.
        """
        scores = scoring.score(
            self.step,
            trainer.params(),
            self.dataset,
            self.config.batch_size,
            self.num_videos,
            "validating",
            stopped=stopped,
        )
        if scores is None:
            return None
        for name in self.config.models:
            mean = float(np.mean(getattr(scores, name)))
            if not math.isfinite(mean):
                logging.warning("The %s's validation is not finite at step %d.", name, trainer.step)
            reporter.log(trainer.step, f"validation/{name}", {"bits_per_dim": mean})
            reporter.show(**{f"val {name}": f"{mean:.3f}"})
        frames = np.concatenate([scores.head[:, None], scores.tail], axis=1)
        return float(np.mean(frames))
