"""The TFDS builder of moments_in_time."""

import dataclasses
import os
from typing import ClassVar

import tensorflow_datasets as tfds

from data_builders import clip_builder
from data_builders.moments_in_time import archive


@dataclasses.dataclass(eq=False)
class MomentsInTimeConfig(clip_builder.ClipConfig):
    """Which frames are taken of which clips.

    Attributes:
      split: "archive" for the archive's own validation clips, or "paper" for 1% of its training
        clips.
    """

    split: str = "archive"


class Builder(clip_builder.Builder):
    """Prepares Moments in Time, Raw or Mini, from its archive."""

    # `tfds build` without --config builds all of these, so there is only one; others are named.
    BUILDER_CONFIGS: ClassVar = [MomentsInTimeConfig(name="64x64_30f")]
    OTHER_CONFIGS: ClassVar = [
        MomentsInTimeConfig(name="64x64_30f_paper_split", split="paper"),
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
        root = archive.find_root(os.fspath(dl_manager.manual_dir))
        self.info.features["label"].names = archive.read_labels(root)
        splits = archive.splits(root, self.builder_config.split)
        return clip_builder.Listing(splits, os.fspath(root))
