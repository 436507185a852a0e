"""Opens datasets by name and iterates over batches for training and evaluation.

A record is {"video": uint8[T, H, W, 3], "label", "id"}, as the builders in data_builders/ write it,
and as `splits` shows the records of other datasets of TFDS.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from flowvid.data import catalog, splits
from flowvid.data.video_features import Wanted
from flowvid.errors import DataError
from flowvid.sizes import Size, SizeLike

_READ_THREADS = 4

ExampleBatch = dict[str, Any]  # as `train_batches` yields it


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split of a prepared dataset, read by index, cut to length and downsampled by averaging.

    Item i is {"video": uint8[num_frames, height, width, 3], "label": int32, "id": str}. A DataError
    is raised where the label of item i is not known.

    Attributes:
      name: the name or path that was given to `load`.
      split: the name of the split.
      source: the records as they are on disk.
      label_names: the names of the labels, in the order of their numbers.
      num_frames: frames per video.
      image_size: size of the frames.
      fingerprint: a short hex digest that changes when records are added, removed or reordered.
    """

    name: str
    split: str
    source: Sequence[dict[str, Any]]
    label_names: tuple[str, ...]
    num_frames: int
    image_size: Size
    fingerprint: str

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.source[index]
        return {
            "video": _average_down(record["video"][: self.num_frames], self.image_size),
            "label": np.int32(self._known(record["label"], index)),
            "id": record["id"].decode(),
        }

    def label(self, index: int) -> int:
        """Returns the label of an item, without decoding its frames where that is possible.

        Raises:
          DataError: if it is not known.
        """
        if hasattr(self.source, "label"):
            return self._known(self.source.label(index), index)
        return self._known(self.source[index]["label"], index)

    def _known(self, label: Any, index: int) -> int:
        if label < 0:
            raise DataError(
                f"{self.name}, split {self.split!r}: item {index} has the label -1, which is an "
                "unknown one: use another split, or --label_feature=none to do without labels."
            )
        return int(label)


def load(
    name: str,
    split: str,
    *,
    data_dir: str | Path | None = None,
    num_frames: int,
    image_size: SizeLike,
    max_skipped: float = 0.5,
    video_feature: str | None = None,
    label_feature: str | None = None,
) -> Dataset:
    """Opens one split of a dataset, which is prepared first if that is possible.

    If the wanted size is not prepared, its smallest prepared multiple is downsampled. Frames of
    TFDS's own datasets are scaled when they are read. The last tenth of the training records of
    such a dataset without a validation split is its "validation" and not part of its "train".

    Args:
      name: one of dataset_names.KNOWN, followed by /config if it has several; another dataset
        that TFDS has prepared in data_dir; or a path: a folder or zip file of clips or images, or
        a folder of records, either that of a version or one above it.
      split: "train", "validation", "test" or another one that was prepared.
      data_dir: the folder of prepared datasets; None is TFDS's default, ~/tensorflow_datasets.
      num_frames: the number of frames to keep of each video, from the first on.
      image_size: size of the frames, such as 64 or 48x96 (`Size.of`).
      max_skipped: the fraction of a folder's files that may be skipped when it is prepared, and
        of the clips of a video dataset of TFDS that may be left out because they are too short,
        or because their label is not known.
      video_feature: the feature that holds the videos, such as "steps/image_main"; None for the
        first of `video_features.videos`.
      label_feature: the feature that holds the labels, "none" for no labels; None for the first
        of `video_features.labels`.

    Raises:
      DataError: if there is no such dataset, split, size or length; the message says what there is.
    """
    size = Size.of(image_size)
    wanted = Wanted(video_feature, label_feature)
    builder = catalog.find(name, data_dir, num_frames, size, max_skipped, wanted)
    records = splits.open_records(
        builder, split, num_frames, size, max_skipped=max_skipped, wanted=wanted
    )
    return Dataset(
        name,
        split,
        records.source,
        splits.label_names(builder, wanted),
        num_frames,
        size,
        records.fingerprint,
    )


def has_split(
    name: str,
    split: str,
    *,
    data_dir: str | Path | None = None,
    num_frames: int,
    image_size: SizeLike,
    max_skipped: float = 0.5,
    video_feature: str | None = None,
    label_feature: str | None = None,
) -> bool:
    """Returns whether a dataset has a split with examples; prepares it first, as `load` does.

    Args:
      name: as in `load`, like the others.
      split: the name of the split.
      data_dir: the folder of prepared datasets.
      num_frames: frames per video.
      image_size: size of the frames, such as 64 or 48x96 (`Size.of`).
      max_skipped: the fraction of clips that may be skipped.
      video_feature: the feature that holds the videos.
      label_feature: the feature that holds the labels.

    Raises:
      DataError: if there is no such dataset, size or length.
    """
    wanted = Wanted(video_feature, label_feature)
    builder = catalog.find(name, data_dir, num_frames, image_size, max_skipped, wanted)
    return split in splits.sizes(builder, wanted)


def options_of(config: Any) -> dict[str, Any]:
    """Returns the arguments of `load` that a run's configuration holds, besides the name."""
    names = ("data_dir", "num_frames", "image_size", "max_skipped", "video_feature")
    return {name: getattr(config, name) for name in (*names, "label_feature")}


def train_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    seed: int,
    start: int = 0,
    shard_index: int = 0,
    shard_count: int = 1,
) -> Iterator[ExampleBatch]:
    """Returns batches of an endless stream of examples, shuffled anew in every pass.

    The stream depends on the seed alone. Shard h of n yields its positions start + h,
    start + h + n, ..., so that a run resumes exactly where it stopped, on any number of hosts.

    Args:
      dataset: the examples; each pass contains each of them once.
      batch_size: the number of examples per batch, over all shards.
      seed: the seed of the order, from 0 to 2^32 - 1.
      start: the first position in the stream.
      shard_index: the number of this process's shard.
      shard_count: the number of shards.

    Returns:
      Batches {"video": uint8[batch_size / shard_count, T, H, W, 3], "label": int32, "id":
      list[str], "index": uint32, the position in the stream}.

    Raises:
      DataError: if batch_size is not divisible by shard_count.
    """
    import grain  # not at the top, since it imports JAX

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
) -> Iterator[ExampleBatch]:
    """Returns batches of the first videos of a split in order, each video once.

    Args:
      dataset: the split.
      batch_size: the number of examples per batch.
      num_videos: the number of videos from the split's first on, or None for all.
      start: the index of the first video to return.

    Returns:
      Batches as in `train_batches`, "index" being the position in the split, with a "mask"
      float32[batch_size] that is 0 for the copies of the last example that fill the last batch.

    Raises:
      DataError: if the split has fewer than num_videos videos.
    """
    if num_videos is None:
        num_videos = len(dataset)
    if not 0 < num_videos <= len(dataset):
        raise DataError(
            f"Asked for {num_videos} videos, but {dataset.name} {dataset.split} holds "
            f"{len(dataset)}; ask for 1 to {len(dataset)}."
        )

    def batches() -> Iterator[ExampleBatch]:
        for first in range(start, num_videos, batch_size):
            positions = range(first, min(first + batch_size, num_videos))
            examples = [{**dataset[index], "index": index} for index in positions]
            padding = batch_size - len(examples)
            mask = np.repeat(np.array([1, 0], np.float32), [len(examples), padding])
            yield {**_stack(examples + examples[-1:] * padding), "mask": mask}

    return batches()


def _stack(examples: Sequence[dict[str, Any]]) -> ExampleBatch:
    return {
        "video": np.stack([example["video"] for example in examples]),
        "label": np.array([example["label"] for example in examples], np.int32),
        "index": np.array([example["index"] for example in examples], np.uint32),
        "id": [example["id"] for example in examples],
    }


def _average_down(
    video: UInt8[np.ndarray, "time rows columns 3"], size: Size
) -> UInt8[np.ndarray, "time height width 3"]:
    """Averages square blocks of pixels and rounds."""
    time, rows, _, _ = video.shape
    block = rows // size.height
    if block == 1:
        return video
    blocks = video.reshape(time, size.height, block, size.width, block, 3)
    return np.rint(blocks.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)
