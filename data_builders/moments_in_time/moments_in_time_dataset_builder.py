"""The TFDS builder of moments_in_time."""

import dataclasses
import os
from typing import ClassVar

import tensorflow_datasets as tfds

from data_builders import clip_builder
from data_builders.moments_in_time import archive, contents
from flowvid.errors import DataError


@dataclasses.dataclass(eq=False)
class MomentsInTimeConfig(clip_builder.ClipConfig):
    """Which frames are taken of which clips.

    Attributes:
      split: "archive" for the archive's own validation clips, or "paper" for 1% of its training
        clips.
      subset: whether to take 100,000 training and 10,000 validation clips of 200 labels, which
        `subset` describes, and not all clips.
    """

    split: str = "archive"
    subset: bool = False


class Builder(clip_builder.Builder):
    """Prepares Moments in Time, version 1, version 2 or Mini, from its archive."""

    # `tfds build` without --config builds all of these, so there is only one; others are named.
    BUILDER_CONFIGS: ClassVar = [MomentsInTimeConfig(name="64x64_30f")]
    OTHER_CONFIGS: ClassVar = [
        MomentsInTimeConfig(name="64x64_30f_paper_split", split="paper"),
        MomentsInTimeConfig(name="64x64_30f_subset", subset=True),
        MomentsInTimeConfig(name="64x64_30f_subset_paper_split", subset=True, split="paper"),
        MomentsInTimeConfig(name="64x64_30f_every_3rd", stride=3),
        MomentsInTimeConfig(name="64x64_90f", num_frames=90),
        MomentsInTimeConfig(name="32x32_30f", image_size=32),
        MomentsInTimeConfig(name="128x128_30f", image_size=128),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = archive.LAYOUT

    @classmethod
    def get_builder_config(
        cls, name: str, version: str | tfds.core.Version | None
    ) -> MomentsInTimeConfig | None:
        """Returns a config by its name, from either list."""
        others = {config.name: config for config in cls.OTHER_CONFIGS}
        return super().get_builder_config(name, version) or others.get(name)

    def list_files(self, dl_manager: tfds.download.DownloadManager) -> clip_builder.Listing:
        """Lists the clips of both splits in the archive's layout."""
        try:
            root = archive.find_root(os.fspath(dl_manager.manual_dir))
        except NotADirectoryError as error:
            raise DataError(
                f"{error.filename} is a file: give the folder that it is in as --manual_dir."
            ) from error
        config = self.builder_config
        self.info.features["label"].names = archive.labels(root, config.subset)
        splits = archive.splits(root, config.split, config.subset)
        folder = root.parent if contents.is_zip(root) else root
        return clip_builder.Listing(splits, os.fspath(folder))
