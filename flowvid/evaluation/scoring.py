"""Scores every video of a split exactly once; an interrupted evaluation can be resumed.

Results of each batch are gathered from all devices of all processes, and kept on disk regularly.
"""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt32
from tqdm import tqdm

from flowvid import random_keys
from flowvid.config.metrics import Metric
from flowvid.config.schema import Config
from flowvid.data import datasets
from flowvid.evaluation.partial_results import PartialResults
from flowvid.parallel import processes
from flowvid.parallel.devices import gather, on_devices, shard, unreplicate
from flowvid.video import head, joint, tail
from flowvid.video.frames import Batch, head_frames, tail_frames

_SAVE_EVERY = 30.0  # seconds between two writes of the results so far


class LabelLog2Probs(NamedTuple):
    """log2 p(. | y) of each video under every label y."""

    first_frame: Float[np.ndarray, "videos labels"]
    video: Float[np.ndarray, "videos labels"] | None  # None where the tail does not see the label


class Noise(NamedTuple):
    """Which noise dequantises the pixels."""

    seed: int
    streams: random_keys.FrameStreams = random_keys.EVALUATION
    draw: int = 0  # its number

    def on_devices(self) -> UInt32[np.ndarray, "devices numbers"]:
        """Returns its numbers for each local device, as arguments that no step is compiled for."""
        numbers = np.array([self.seed, self.draw, *self.streams], np.uint32)
        return np.tile(numbers, (jax.local_device_count(), 1))


class Scores(NamedTuple):
    """Bits per dimension of each video: of its first frame, and of each later frame."""

    head: Float[np.ndarray, " videos"]
    tail: Float[np.ndarray, "videos later_frames"]

    def plus(self, bits: float) -> "Scores":
        """Returns the scores with so many bits per dimension more."""
        return Scores(self.head + bits, self.tail + bits)


def over_videos(
    result_of: Callable[[Batch], dict[str, Any]],
    dataset: datasets.Dataset,
    batch_size: int,
    num_videos: int,
    title: str,
    stopped: Callable[[], bool] = lambda: False,
    kept: PartialResults | None = None,
) -> dict[str, np.ndarray] | None:
    """Returns results of the first `num_videos` videos of a split, the same in every process.

    Args:
        result_of: function from this process's share of a batch, split over its devices, to arrays
            of the whole batch with an entry per video, among them "index", the videos' numbers:
            devices may be in any order.
        dataset: the split.
        batch_size: videos per batch over all devices of all processes; it is rounded up to a
            multiple of their number, so that a run can be evaluated on other machines than it was
            trained on.
        num_videos: number of videos, at most the length of the split.
        title: title of the progress bar.
        stopped: function that is called before each batch; once it returns True, the result is
            None.
        kept: file from which results are resumed, and to which they are written regularly.

    Raises:
        DataError: if the split has fewer than `num_videos` videos.
    """
    devices = jax.device_count()
    batch_size = math.ceil(batch_size / devices) * devices
    share = batch_size // jax.process_count()
    own = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    found = kept.read() if kept is not None else {}
    done = len(next(iter(found.values()))) if found else 0
    results = {name: _longer(values, num_videos) for name, values in found.items()}
    last_saved, silent = time.monotonic(), not processes.is_first()
    with tqdm(
        total=num_videos, initial=done, desc=title, unit="video", leave=False, disable=silent
    ) as bar:
        for batch in datasets.eval_batches(
            dataset, batch_size=batch_size, num_videos=num_videos, start=done
        ):
            if stopped():
                return None
            arrays = Batch(*(batch[name][own] for name in ("video", "label", "index")))
            result = result_of(shard(arrays))
            index = result.pop("index")
            results = results or {n: _longer(v[:0], num_videos) for n, v in result.items()}
            for name, values in result.items():
                results[name][index] = values  # copies that fill up a batch have the same values
            done += int(batch["mask"].sum())
            bar.update(int(batch["mask"].sum()))
            if kept is not None and (
                done == num_videos or time.monotonic() > last_saved + _SAVE_EVERY
            ):
                kept.write({name: values[:done] for name, values in results.items()})
                last_saved = time.monotonic()
    return results


def _longer(values: np.ndarray, length: int) -> np.ndarray:
    rest = np.zeros((length - len(values), *values.shape[1:]), np.float64)
    return np.concatenate([values.astype(np.float64), rest])


def standard_error(per_video: Float[np.ndarray, " videos"]) -> float | None:
    """Returns the standard error of the mean over videos, or None for a single video."""
    if len(per_video) == 1:
        return None
    return float(np.std(per_video, ddof=1) / np.sqrt(len(per_video)))


@functools.lru_cache(maxsize=8)  # runs of one process that differ in weights alone compile it once
def evaluator(config: Config, metric: Metric) -> Any:
    """Returns the compiled evaluation step under a metric.

    The step takes parameters, this process's share of a batch and `Noise.on_devices`. It returns to
    each device the bits of the whole batch, with the videos' indices.
    """

    def body(params: PyTree, batch: Batch, noise: Array) -> Any:
        seed, draw, streams = _of_noise(noise)
        bits = joint.eval_step(config, metric, seed, params, batch, draw, streams)
        return gather({"index": batch.example, "head": bits.head, "tail": bits.tail})

    return on_devices(body)


def _of_noise(numbers: UInt32[Array, " numbers"]) -> tuple[Array, Array, random_keys.FrameStreams]:
    """Returns seed, draw and streams of a device's `Noise`."""
    seed, draw, *streams = numbers
    return seed, draw, random_keys.FrameStreams(*streams)


def score(
    step: Any,
    params: PyTree,
    noise: Noise,
    dataset: datasets.Dataset,
    batch_size: int,
    num_videos: int,
    title: str,
    stopped: Callable[[], bool] = lambda: False,
    kept: PartialResults | None = None,
) -> Scores | None:
    """Returns the bits of the first `num_videos` videos of a split, or None where it is stopped.

    Args:
        step: the step that `evaluator` returns.
        params: parameters of the run's models by name, replicated over the devices.
        noise: of the pixels.
        dataset: the split.
        batch_size: as in `over_videos`, like the following arguments.
        num_videos: number of videos.
        title: title of the progress bar.
        stopped: function that tells whether to stop.
        kept: file of intermediate results.
    """
    of_devices = noise.on_devices()

    def result_of(batch: Batch) -> dict[str, Any]:
        result: dict[str, Any] = unreplicate(step(params, batch, of_devices))
        return result

    results = over_videos(result_of, dataset, batch_size, num_videos, title, stopped, kept)
    return None if results is None else Scores(**results)


@functools.lru_cache(maxsize=8)
def label_evaluator(config: Config) -> Any:
    """Returns the compiled step for log2 p(. | label) of first frames and of whole videos.

    It takes what the step of `evaluator` takes. The label is the one in the batch, and the metric
    is the run's own. Whole videos are left out where the tail does not see the label.
    """

    def body(params: PyTree, batch: Batch, noise: Array) -> Any:
        seed, draw, streams = _of_noise(noise)
        keys = random_keys.keys_of_frames(seed, streams, draw, batch.example)
        x = head_frames(keys, batch, config.metric)
        first = head.log_prob(config, params["head"], x, batch.label).log_prob
        found = {"index": batch.example, "first_frame": first / math.log(2)}
        if tail_sees_label(config):
            frames = tail_frames(keys, batch, config.metric)
            later = tail.log_prob(config, params["tail"], frames).log_prob
            found["video"] = (first + jnp.sum(later, axis=1)) / math.log(2)
        return gather(found)

    return on_devices(body)


def tail_sees_label(config: Config) -> bool:
    """Returns whether there is a tail and it is told the label."""
    return "tail" in config.models and config.sees("tail").label


def label_log2_probs(
    config: Config,
    params: PyTree,
    dataset: datasets.Dataset,
    num_videos: int,
    seed: int,
    kept: PartialResults | None = None,
) -> LabelLog2Probs:
    """Returns log2 p(. | y) of each video for every label y, with the same noise.

    Args:
        config: the run's configuration.
        params: parameters of the run's models by name, replicated over the devices.
        dataset: the split.
        num_videos: number of videos, the first ones of the split.
        seed: seed of the dequantisation noise.
        kept: file of intermediate results.
    """
    step, noise = label_evaluator(config), Noise(seed).on_devices()

    def result_of(batch: Batch) -> dict[str, Any]:
        of_label = [
            unreplicate(
                step(params, batch._replace(label=jnp.full_like(batch.label, label)), noise)
            )
            for label in range(config.num_labels)
        ]
        return {
            name: of_first if name == "index" else np.stack([r[name] for r in of_label], axis=1)
            for name, of_first in of_label[0].items()
        }

    title = f"{config.num_labels} labels"
    results = over_videos(result_of, dataset, config.batch_size, num_videos, title, kept=kept)
    assert results is not None  # it is never stopped
    return LabelLog2Probs(results["first_frame"], results.get("video"))
