"""The base of the builders of footage: every listed file ends as a record or in a report.

What is left out stands, with the reason, in `skipped-<split>.tsv` beside the records.
"""

import collections
import csv
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from absl import logging
from etils import epath
from tqdm import tqdm

from data_builders import files
from data_builders.features import video_features
from data_builders.files import Item, Video, Window
from flowvid.errors import DataError


@dataclasses.dataclass(eq=False)
class ClipConfig(tfds.core.BuilderConfig):
    """Which frames are taken of each clip, at what size; the name says it.

    Attributes:
      image_size: height and width of the records, in pixels.
      num_frames: how many frames of each clip are kept; shorter clips are skipped.
      start: the first frame kept.
      stride: one of so many frames is kept.
      max_skipped: the largest share of a split's clips that may be skipped, from 0 to 1.
    """

    image_size: int = 64
    num_frames: int = 30
    start: int = 0
    stride: int = 1
    max_skipped: float = 0.5

    def __post_init__(self) -> None:
        """Refuses frames that there cannot be."""
        for name, low in (("image_size", 1), ("num_frames", 1), ("start", 0), ("stride", 1)):
            if getattr(self, name) < low:
                raise DataError(f"{name}={getattr(self, name)} must be at least {low}.")

    @property
    def window(self) -> Window:
        """What the decoders need to know: plain values, for other processes."""
        return Window(self.num_frames, self.image_size, self.start, self.stride)


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of the builders of real footage; writes ArrayRecord, readable by index.

    Decodes on all cores of this machine or, where Beam options are given, in a Beam pipeline.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}

    def __init__(self, *, file_format: str | None = "array_record", **kwargs: Any):
        self._in_beam = False
        super().__init__(file_format=file_format, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return self.dataset_info_from_configs(
            features=video_features(config.num_frames, config.image_size)
        )

    def download_and_prepare(
        self, *, download_config: tfds.download.DownloadConfig | None = None, **kwargs: Any
    ) -> None:
        """As TFDS's own, and remembers whether a Beam pipeline was asked for."""
        config = download_config or tfds.download.DownloadConfig()
        self._in_beam = bool(config.beam_options or config.beam_runner)
        super().download_and_prepare(download_config=config, **kwargs)

    def generate(
        self, splits: dict[str, Callable[[], Sequence[Item]]], root: str
    ) -> dict[str, Any]:
        """What `_split_generators` returns: the examples of each split, bad files left out.

        Args:
          splits: functions that list a split's files.
          root: the folder that no link may lead out of.
        """
        # All are listed before the first clip is read: a missing list must not cost hours.
        items = {split: list_items() for split, list_items in splits.items()}
        if self._in_beam:
            return {s: self._pipeline(s, splits[s], len(items[s]), root) for s in splits}
        return {s: self._generate_examples(s, items[s], root) for s in splits}

    def _generate_examples(
        self, split: str, items: Sequence[Item], root: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        skipped = []
        decode = functools.partial(files.decode_item, self.builder_config.window, root)
        with tqdm(total=len(items), desc=f"Decoding {split}", unit="clip") as bar:
            for item, video in files.decode_in_parallel(decode, items, os.cpu_count() or 1):
                if isinstance(video, str):
                    skipped.append((item.id, video))
                    bar.set_postfix(skipped=len(skipped))
                else:
                    yield item.id, _example(item, video)
                bar.update()
        folder, largest = os.fspath(self.data_path), self.builder_config.max_skipped
        write_report(folder, split, len(items), len(items) - len(skipped), skipped, largest)

    def _pipeline(
        self, split: str, list_items: Callable[[], Sequence[Item]], listed: int, root: str
    ) -> Any:
        import apache_beam as beam

        from data_builders.beam_decoding import Decode

        decode = functools.partial(files.decode_item, self.builder_config.window, root)
        folder, largest = os.fspath(self.data_path), self.builder_config.max_skipped

        @beam.ptransform_fn
        def examples(pipeline: Any) -> Any:
            decoded = (
                pipeline
                # Listed again where the pipeline runs: a million items do not fit in its graph.
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


# The account.


def write_report(
    folder: str,
    split: str,
    listed: int,
    prepared: int,
    skipped: Sequence[tuple[str, str]],
    max_skipped: float,
) -> None:
    """Writes skipped-<split>.tsv (path, reason) and summary-<split>.txt into `folder`.

    Raises:
      DataError: nothing is left, or a larger share than `max_skipped` was skipped.
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
    (path / f"summary-{split}.txt").write_text(summary + "\n")
    with (path / f"skipped-{split}.tsv").open("w") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("path", "reason"))
        writer.writerows(sorted(skipped))
    logging.info(summary)
    if not prepared or share > max_skipped:
        reasons = collections.Counter(reason for _, reason in skipped).most_common(3)
        example = {reason: name for name, reason in sorted(skipped, reverse=True)}
        most = "; ".join(f"{why} ({count}, such as {example[why]})" for why, count in reasons)
        raise DataError(
            f"{summary}: {'too many' if prepared else 'nothing is left'}. "
            f"Most often: {most or 'none is listed'}. "
            + (
                "To go on all the same, raise max_skipped (--max_skipped of flowvid.train, or a "
                "custom --config of tfds build)."
                if prepared
                else "Mend these files or remove them."
            )
        )
