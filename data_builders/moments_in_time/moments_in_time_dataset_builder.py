"""The TFDS builder of moments_in_time."""

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from data_builders.moments_in_time import archive


@dataclasses.dataclass(eq=False)
class MomentsInTimeConfig(tfds.core.BuilderConfig):
    """Image size and length of the records; the name says both."""

    image_size: int = 64
    num_frames: int = 30


class Builder(tfds.core.GeneratorBasedBuilder):
    """Prepares Moments in Time from its archive; records are ArrayRecord, readable by index.

    Clips that cannot be used are left out, and named with the reason in `skipped.tsv` beside the
    records.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [MomentsInTimeConfig(name="64x64_30f")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = archive.LAYOUT

    def __init__(self, *, file_format: str | None = "array_record", **kwargs: Any):
        super().__init__(file_format=file_format, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        shape = (config.num_frames, config.image_size, config.image_size, 3)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "video": tfds.features.Tensor(
                        shape=shape, dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
                    ),
                    "label": tfds.features.ClassLabel(),  # names come from the archive
                    "id": tfds.features.Text(),
                }
            ),
            homepage="http://moments.csail.mit.edu",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        root = Path(dl_manager.manual_dir)
        self.info.features["label"].names = archive.read_labels(root)
        # Both lists are read before the first clip is: a missing one must not cost hours.
        clips = {split: archive.list_clips(root, split) for split in archive.SPLITS}
        return {split: self._generate_examples(split, clips[split]) for split in clips}

    def _generate_examples(
        self, split: str, clips: list[archive.Clip]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        config = self.builder_config
        skipped = []
        for clip in clips:
            video = archive.decode(clip, config.num_frames, config.image_size)
            if isinstance(video, str):
                skipped.append((split, clip.path, video))
            else:
                example = {"video": video, "label": clip.label, "id": clip.filename}
                yield clip.filename, example
        self._report(split, len(clips), skipped)

    def _report(self, split: str, num_listed: int, skipped: list[tuple[str, Path, str]]) -> None:
        report = Path(self.data_dir) / "skipped.tsv"
        is_new = not report.exists()
        with report.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t")
            if is_new:
                writer.writerow(("split", "path", "reason"))
            writer.writerows(skipped)
        num_prepared, num_skipped = num_listed - len(skipped), len(skipped)
        logging.info(
            f"{split}: {num_prepared} prepared + {num_skipped} skipped = {num_listed} listed"
        )
        if not num_prepared:
            first_reason = f" The first reason: {skipped[0][2]}" if skipped else ""
            raise archive.ArchiveError(
                f"None of the {num_listed} clips listed for {split} could be prepared."
                f"{first_reason}\n{archive.LAYOUT}"
            )
