"""The base class of the builders of footage: every listed file becomes a record or is reported.

`skipped-<split>.tsv` beside the records lists the skipped files with the reasons.
"""

import abc
import collections
import csv
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import tensorflow_datasets as tfds
from absl import logging
from etils import epath
from tqdm import tqdm

from data_builders import files
from data_builders.features import video_features
from data_builders.files import Video, Window
from data_builders.listing import Item
from flowvid.errors import DataError
from flowvid.sizes import Size, SizeLike


@dataclasses.dataclass(eq=False)
class ClipConfig(tfds.core.BuilderConfig):
    """Which frames are taken of each clip, and their size; the config's name states both.

    Attributes:
      image_size: size of the records, such as 64 or 48x96 (`Size.of`).
      num_frames: the number of frames kept per clip; shorter clips are skipped.
      start: the index of the first frame kept.
      stride: the distance between the indices of frames that are kept.
      max_skipped: the largest fraction of a split's clips that may be skipped, from 0 to 1.
    """

    image_size: SizeLike = 64
    num_frames: int = 30
    start: int = 0
    stride: int = 1
    max_skipped: float = 0.5

    def __post_init__(self) -> None:
        """Checks that such frames can exist.

        Raises:
          ConfigError: for an unusable size.
          DataError: naming the field and its smallest value.
        """
        Size.of(self.image_size)
        for name, low in (("num_frames", 1), ("start", 0), ("stride", 1)):
            if getattr(self, name) < low:
                raise DataError(f"{name}={getattr(self, name)} must be at least {low}.")

    @property
    def window(self) -> Window:
        """Returns the settings of the decoders as plain values, for other processes."""
        return Window(self.num_frames, Size.of(self.image_size), self.start, self.stride)


class Listing(NamedTuple):
    """The files to prepare.

    Attributes:
      splits: for each split, a function that lists its files.
      root: the folder that contains the files; links that lead out of it are skipped.
      may_be_empty: the splits of which any number of files may be skipped.
    """

    splits: dict[str, Callable[[], Sequence[Item]]]
    root: str
    may_be_empty: frozenset[str] = frozenset()


class Builder(  # type: ignore[call-arg]
    tfds.core.ShardBasedBuilder, tfds.core.GeneratorBasedBuilder, skip_registration=True
):
    """The base class of the builders of real footage; writes ArrayRecord, readable by index.

    Decodes on all cores of this machine or, if Beam options are given, in a Beam pipeline.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES: ClassVar = {
        "1.0.0": "First release.",
        "1.1.0": "Clips as they are shown: mirrored, of square pixels, composed on white.",
    }

    def __init__(self, *, file_format: str | None = "array_record", **kwargs: Any):
        super().__init__(file_format=file_format, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return self.dataset_info_from_configs(
            features=video_features(config.num_frames, config.image_size)
        )

    @abc.abstractmethod
    def list_files(self, dl_manager: tfds.download.DownloadManager) -> Listing:
        """Lists the files to prepare; also sets the names of the labels."""

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        # TFDS's generators keep all records of a split until the last, then write them on one
        # core; its shards are written while other cores decode, but not by Beam's workers.
        in_beam = download_config.beam_options or download_config.beam_runner
        base = tfds.core.GeneratorBasedBuilder if in_beam else tfds.core.ShardBasedBuilder
        self._download_config = download_config
        base._download_and_prepare(self, dl_manager, download_config)

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[Callable[[], Iterator[tuple[str, dict[str, Any]]]]]]:
        listing = self.list_files(dl_manager)
        most = self._download_config.max_examples_per_split
        # All are listed before the first clip is read, so that a missing list costs no hours.
        items = {split: list_items()[:most] for split, list_items in listing.splits.items()}
        return {split: self._shards(split, items[split], listing) for split in items}

    def _shards(
        self, split: str, items: Sequence[Item], listing: Listing
    ) -> list[Callable[[], Iterator[tuple[str, dict[str, Any]]]]]:
        """Returns the examples of each shard of a split, to be drawn one shard after the other."""
        config, listed = self.builder_config, len(items)
        num_bytes = listed * config.num_frames * Size.of(config.image_size).pixels * 3
        wanted = self._download_config.get_shard_config().get_number_shards(num_bytes, listed)
        shards = max(1, min(wanted, listed))
        sizes = [listed * (k + 1) // shards - listed * k // shards for k in range(shards - 1)]
        decoded = self._decode(split, items, listing)  # of all shards, since decoders work ahead
        return [
            functools.partial(self._generate_examples, decoded, size) for size in (*sizes, None)
        ]

    def _generate_examples(
        self, decoded: Iterator[tuple[Item, Video | str]], size: int | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for item, video in itertools.islice(decoded, size):
            if not isinstance(video, str):
                yield item.id, _example(item, video)

    def _decode(
        self, split: str, items: Sequence[Item], listing: Listing
    ) -> Iterator[tuple[Item, Video | str]]:
        """Yields each item with its frames or a reason to skip it, then writes the report."""
        skipped = []
        decode = functools.partial(files.decode_item, self.builder_config.window, listing.root)
        processes = (os.cpu_count() or 1) + 1  # while one hands its frames over, another decodes
        with tqdm(total=len(items), desc=f"Decoding {split}", unit="clip") as bar:
            for item, video in files.decode_in_parallel(decode, items, processes):
                if isinstance(video, str):
                    skipped.append((item.id, video))
                    bar.set_postfix(skipped=len(skipped))
                yield item, video
                bar.update()
        largest = self._max_skipped(split, listing)
        write_report(
            os.fspath(self.data_path),
            split,
            len(items),
            len(items) - len(skipped),
            skipped,
            largest,
        )

    def _max_skipped(self, split: str, listing: Listing) -> float | None:
        return None if split in listing.may_be_empty else self.builder_config.max_skipped

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        listing = self.list_files(dl_manager)
        listed = {split: len(list_items()) for split, list_items in listing.splits.items()}
        return {
            split: self._pipeline(split, list_items, listed[split], listing)
            for split, list_items in listing.splits.items()
        }

    def _pipeline(
        self, split: str, list_items: Callable[[], Sequence[Item]], listed: int, listing: Listing
    ) -> Any:
        import apache_beam as beam

        from data_builders.beam_decoding import Decode

        decode = functools.partial(files.decode_item, self.builder_config.window, listing.root)
        folder, largest = os.fspath(self.data_path), self._max_skipped(split, listing)

        @beam.ptransform_fn
        def examples(pipeline: Any) -> Any:
            decoded = (
                pipeline
                # Listed again where the pipeline runs, since a million items do not fit its graph.
                | beam.Create([split])
                | beam.FlatMap(lambda _: list_items())
                | beam.Reshuffle()
                | beam.ParDo(Decode(decode))
            )
            skipped = (
                decoded
                | "Skipped" >> beam.Filter(lambda pair: isinstance(pair[1], str))
                | beam.Map(lambda pair: (pair[0].id, pair[1]))
                | beam.combiners.ToList()
            )
            prepared = decoded | beam.Filter(lambda pair: not isinstance(pair[1], str))
            count = beam.pvalue.AsSingleton(prepared | beam.combiners.Count.Globally())
            _ = skipped | "Report" >> beam.Map(
                lambda rows, count: write_report(folder, split, listed, count, rows, largest),
                count,
            )
            return prepared | "Example" >> beam.Map(lambda pair: (pair[0].id, _example(*pair)))

        return examples()


def _example(item: Item, video: Video) -> dict[str, Any]:
    return {"video": video, "label": item.label, "id": item.id}


# The report.


def write_report(
    folder: str,
    split: str,
    listed: int,
    prepared: int,
    skipped: Sequence[tuple[str, str]],
    max_skipped: float | None,
) -> None:
    """Writes skipped-<split>.tsv (path, reason) and summary-<split>.txt into `folder`.

    Args:
      folder: where to write.
      split: the name of the split.
      listed: the number of its files.
      prepared: the number of its records.
      skipped: the ids of the other files, with the reasons.
      max_skipped: the largest fraction that may be skipped; None if the split may be empty.

    Raises:
      DataError: if nothing is left or more than `max_skipped` of the files were skipped.
    """
    if prepared + len(skipped) != listed:
        raise AssertionError(f"{prepared} prepared + {len(skipped)} skipped != {listed} listed")
    share = len(skipped) / listed if listed else 0.0
    summary = (
        f"{split}: {prepared} prepared + {len(skipped)} skipped ({100 * share:.1f}%) "
        f"= {listed} listed"
    )
    path = epath.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    (path / f"summary-{split}.txt").write_text(summary + "\n", encoding="utf-8")
    with (path / f"skipped-{split}.tsv").open("w", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("path", "reason"))
        writer.writerows(sorted(skipped))
    logging.info(summary)
    if max_skipped is not None and (not prepared or share > max_skipped):
        reasons = collections.Counter(reason for _, reason in skipped).most_common(3)
        example = {reason: name for name, reason in sorted(skipped, reverse=True)}
        most = "; ".join(f"{why} ({count}, such as {example[why]})" for why, count in reasons)
        raise DataError(
            f"{summary}: {'too many' if prepared else 'nothing is left'}. "
            f"Most frequent reasons: {most or 'none is listed'}. "
            + (
                "To prepare the others nevertheless, raise max_skipped (--max_skipped of "
                "flowvid.train, or a custom --config of tfds build)."
                if prepared
                else "Fix or remove these files."
            )
        )
