"""Finds the clip of a split that is nearest to each of some videos."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from experiments.running.finished_runs import Videos
from flowvid.data import datasets


class Nearest(NamedTuple):
    """The nearest clip to each of some videos, and its distance."""

    clips: Int[np.ndarray, " videos"]  # indices in the split
    distance: Float[np.ndarray, " videos"]  # root mean square over all pixels, in grey levels


def nearest(videos: Videos, dataset: datasets.Dataset, title: str) -> Nearest:
    """Returns the nearest clip of a whole split to each video.

    Args:
        videos: of the same size and number of frames as the split's clips.
        dataset: the split.
        title: of the progress bar.
    """
    wanted = videos.reshape(len(videos), -1).astype(np.float32)
    best = np.full(len(videos), np.inf)
    index = np.zeros(len(videos), int)
    with tqdm(total=len(dataset), desc=title, unit="clip", leave=False) as bar:
        for batch in datasets.eval_batches(dataset, batch_size=64):
            clips = batch["video"].reshape(len(batch["video"]), -1).astype(np.float32)
            # |a - b|^2 = |a|^2 - 2 ab + |b|^2: one matrix product for all pairs.
            squares = (wanted**2).sum(1)[:, None] + (clips**2).sum(1) - 2 * wanted @ clips.T
            here = squares.argmin(axis=1)
            closer = squares[np.arange(len(videos)), here] < best
            best[closer] = squares[np.arange(len(videos)), here][closer]
            index[closer] = batch["index"][here][closer]
            bar.update(int(batch["mask"].sum()))
    return Nearest(index, np.sqrt(np.maximum(best, 0) / wanted.shape[1]))
