"""From a data set's name to batches for training and evaluation, all by index.

A record is {"video": uint8[T, H, W, 3], "label", "id"}, as the builders in data_builders/ write it.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from flowvid.data import catalog, tfds_records
from flowvid.errors import DataError

_READ_THREADS = 4

Batch = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split of a prepared data set, read by index, cut and averaged down to the wanted size.

    Item i is {"video": uint8[num_frames, image_size, image_size, 3], "label": int32, "id": str}.
    """

    name: str
    split: str
    source: Sequence[dict[str, Any]]  # the records as they are on disk
    label_names: tuple[str, ...]
    num_frames: int
    image_size: int

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.source[index]
        return {
            "video": _average_down(record["video"][: self.num_frames], self.image_size),
            "label": np.int32(record["label"]),
            "id": record["id"].decode(),
        }


def load(
    name: str,
    split: str,
    *,
    data_dir: str | Path | None = None,
    num_frames: int,
    image_size: int,
    max_skipped: float = 0.5,
) -> Dataset:
    """Opens one split of a data set; prepares what can be made from what is there.

    Among the prepared sizes the wanted one is taken, else the smallest that is a multiple of it.

    Args:
      name: one of catalog.KNOWN_DATASETS, with /config where it has several; another data set
        that TFDS has prepared in data_dir; or a path: a folder or zip file of clips or images, or
        a folder of records, a version's own or one above it.
      split: "train" or "validation", or what else was prepared.
      data_dir: where TFDS keeps the known data sets; None is TFDS's default, ~/tensorflow_datasets.
      num_frames: the first so many frames of each video.
      image_size: height and width, in pixels.
      max_skipped: the share of a folder's files that may be left out when it is prepared.

    Raises:
      DataError: there is no such data set, split, size or length; says what there is.
    """
    builder = catalog.find(name, data_dir, num_frames, image_size, max_skipped)
    source = tfds_records.open_split(builder, split, image_size)
    return Dataset(name, split, source, tfds_records.label_names(builder), num_frames, image_size)


def train_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    seed: int,
    start: int = 0,
    shard_index: int = 0,
    shard_count: int = 1,
) -> Iterator[Batch]:
    """Batches of an endless stream of examples, shuffled anew in every pass.

    The stream is a function of the seed alone. A shard h of n yields its positions start + h,
    start + h + n, ...; so a run goes on exactly where it stopped, also on other numbers of hosts.

    Args:
      dataset: what to draw from; each pass holds each example once.
      batch_size: global, over all shards.
      seed: of the order, from 0 to 2^32 - 1.
      start: the position in the stream to begin at.
      shard_index: this process's share.
      shard_count: how many shares there are.

    Returns:
      Batches {"video": uint8[batch_size / shard_count, T, H, W, 3], "label": int32, "id":
      list[str], "index": uint32, the position in the stream}.

    Raises:
      DataError: batch_size does not divide by shard_count.
    """
    import grain  # here, since it imports JAX

    if batch_size % shard_count:
        raise DataError(
            f"Batch size {batch_size} must be divisible by the number of processes {shard_count}."
        )
    local_batch_size = batch_size // shard_count
    stream = grain.MapDataset.source(dataset).seed(seed).shuffle().repeat()
    numbered = stream.map_with_index(lambda index, example: {**example, "index": index})
    shard = numbered[start + shard_index :: shard_count]
    options = grain.ReadOptions(
        num_threads=_READ_THREADS, prefetch_buffer_size=max(_READ_THREADS, 2 * local_batch_size)
    )
    return iter(shard.to_iter_dataset(options).batch(local_batch_size, batch_fn=_stack))


def eval_batches(
    dataset: Dataset, *, batch_size: int, num_videos: int | None = None, start: int = 0
) -> Iterator[Batch]:
    """Batches of the first `num_videos` videos in order, each once; None takes them all.

    They begin with number `start`.

    Batches are as in `train_batches`, "index" being the position in the split, and have a "mask"
    float32[batch_size]: 0 where the last batch is filled up with copies of the last example.

    Raises:
      DataError: the split holds fewer than num_videos.
    """
    if num_videos is None:
        num_videos = len(dataset)
    if not 0 < num_videos <= len(dataset):
        raise DataError(
            f"Asked for {num_videos} videos, but {dataset.name} {dataset.split} holds "
            f"{len(dataset)}; ask for 1 to {len(dataset)}."
        )

    def batches() -> Iterator[Batch]:
        for first in range(start, num_videos, batch_size):
            positions = range(first, min(first + batch_size, num_videos))
            examples = [{**dataset[index], "index": index} for index in positions]
            padding = batch_size - len(examples)
            mask = np.repeat(np.array([1, 0], np.float32), [len(examples), padding])
            yield {**_stack(examples + examples[-1:] * padding), "mask": mask}

    return batches()


def _stack(examples: Sequence[dict[str, Any]]) -> Batch:
    return {
        "video": np.stack([example["video"] for example in examples]),
        "label": np.array([example["label"] for example in examples], np.int32),
        "index": np.array([example["index"] for example in examples], np.uint32),
        "id": [example["id"] for example in examples],
    }


def _average_down(
    video: UInt8[np.ndarray, "time height width 3"], image_size: int
) -> UInt8[np.ndarray, "time size size 3"]:
    """Averages equal square blocks of pixels, rounded."""
    time, height, _, _ = video.shape
    block = height // image_size
    if block == 1:
        return video
    blocks = video.reshape(time, image_size, block, image_size, block, 3)
    return np.rint(blocks.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)
