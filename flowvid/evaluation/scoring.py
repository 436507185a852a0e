"""What the models say of every video of a split, each exactly once; long work goes on where it was.

Results of a batch are gathered from all devices of all processes, and kept on disk as they come.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree
from tqdm import tqdm

from flowvid import random_keys
from flowvid.config.metrics import Metric
from flowvid.config.schema import Config
from flowvid.data import datasets
from flowvid.evaluation.partial_results import PartialResults
from flowvid.parallel import processes
from flowvid.parallel.devices import gather, on_devices, shard, unreplicate
from flowvid.video import head, joint
from flowvid.video.frames import Batch, head_frames

_SAVE_EVERY = 30.0  # seconds between savings of what is done


class Scores(NamedTuple):
    """Bits per dimension of every video: first frame [N], and each later frame [N, T - 1]."""

    head: Float[np.ndarray, " videos"]
    tail: Float[np.ndarray, "videos later_frames"]


def over_videos(
    result_of: Callable[[Batch], dict[str, Any]],
    dataset: datasets.Dataset,
    batch_size: int,
    num_videos: int,
    title: str,
    stopped: Callable[[], bool] = lambda: False,
    kept: PartialResults | None = None,
) -> dict[str, np.ndarray] | None:
    """Results of the first `num_videos` videos of a split, in every process.

    Args:
        result_of: this process's share of a batch, split over its devices, to arrays of the whole
            batch, one entry a video, with "index", the videos' numbers: devices may stand in any
            order.
        dataset: the split.
        batch_size: videos at once, over all devices of all processes; rounded up to a multiple of
            their number, so that a run can be evaluated on other machines than it was trained on.
        num_videos: at most the length of the split.
        title: for the progress bar.
        stopped: asked before each batch; once it is true there is no result, None.
        kept: where results are kept while more are to come, and looked for at the start.
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
                results[name][index] = values  # a copy that fills up a batch says the same again
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
    """Of the mean over videos; None for a single one."""
    n = len(per_video)
    return float(np.std(per_video, ddof=1) / math.sqrt(n)) if n > 1 else None


def evaluator(
    config: Config,
    metric: Metric,
    seed: int,
    streams: random_keys.FrameStreams = random_keys.EVALUATION,
) -> Any:
    """The compiled evaluation step under a metric; keep it to compile once a run.

    It takes parameters, this process's share of a batch and the number of the noise draw, and gives
    each device the bits of the whole batch, with the videos' indices.
    """

    def body(params: PyTree, batch: Batch, draw: Any) -> Any:
        bits = joint.eval_step(config, metric, seed, params, batch, draw, streams)
        return gather({"index": batch.example, "head": bits.head, "tail": bits.tail})

    return on_devices(body)


def score(
    step: Any,
    params: PyTree,
    dataset: datasets.Dataset,
    batch_size: int,
    num_videos: int,
    title: str,
    stopped: Callable[[], bool] = lambda: False,
    kept: PartialResults | None = None,
    draw: int = 0,
) -> Scores | None:
    """Bits of the first `num_videos` videos of a split, as `over_videos` gathers them.

    Args:
        step: from `evaluator`.
        params: of the run's models, by name, replicated over the devices.
        dataset: and the others: as of `over_videos`.
        batch_size: videos at once.
        num_videos: how many.
        title: for the progress bar.
        stopped: whether to give up.
        kept: of this evaluation.
        draw: the noise draw's number.
    """
    of_devices = np.full(jax.local_device_count(), draw, np.int32)

    def result_of(batch: Batch) -> dict[str, Any]:
        result: dict[str, Any] = unreplicate(step(params, batch, of_devices))
        return result

    results = over_videos(result_of, dataset, batch_size, num_videos, title, stopped, kept)
    return None if results is None else Scores(**results)


def label_evaluator(config: Config, seed: int) -> Any:
    """The compiled step to log2 p(first frame | label), in the run's own metric.

    The label is the batch's own; the noise is the first draw of `evaluator` whatever the label.
    """

    def body(params: PyTree, batch: Batch) -> Any:
        keys = random_keys.keys_of_frames(seed, random_keys.EVALUATION, 0, batch.example)
        x = head_frames(keys, batch, config.metric)
        log2_p = head.log_prob(config, params, x, batch.label).log_prob / math.log(2)
        return gather({"index": batch.example, "log2_p": log2_p})

    return on_devices(body)


def label_log2_probs(
    config: Config,
    params: PyTree,
    dataset: datasets.Dataset,
    num_videos: int,
    seed: int,
    kept: PartialResults | None = None,
) -> Float[np.ndarray, "videos labels"]:
    """log2 p(first frame | y) of each video for every label y, under common noise.

    `params` are the head's, replicated over the devices.
    """
    step = label_evaluator(config, seed)

    def result_of(batch: Batch) -> dict[str, Any]:
        of_label = [
            unreplicate(step(params, batch._replace(label=jnp.full_like(batch.label, label))))
            for label in range(config.num_labels)
        ]
        log2_p = np.stack([result["log2_p"] for result in of_label], axis=1)
        return {"index": of_label[0]["index"], "log2_p": log2_p}

    title = f"{config.num_labels} labels"
    results = over_videos(result_of, dataset, config.batch_size, num_videos, title, kept=kept)
    assert results is not None  # nobody stops it
    return results["log2_p"]
