"""The base class of the builders of generated clips: sizes, features, and records in order."""

import dataclasses
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from data_builders.features import video_features


@dataclasses.dataclass(eq=False)
class GeneratedConfig(tfds.core.BuilderConfig):
    """The image size and the length of the clips, which the config's name states.

    Attributes:
      image_size: height and width, in pixels.
      num_frames: frames per clip.
    """

    image_size: int = 64
    num_frames: int = 30


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """The base class of the builders of generated clips; writes ArrayRecord, readable by index.

    Subclasses set `LABELS`, the names of the labels, and `NUM_CLIPS`, the number of clips per
    split.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES: ClassVar = {
        "1.0.0": "First release.",
        "1.1.0": "Adds the split test; the clips of train and validation are unchanged.",
    }
    BUILDER_CONFIGS: ClassVar = [
        GeneratedConfig(name=f"{size}x{size}_30f", image_size=size) for size in (64, 32)
    ]
    LABELS: ClassVar[tuple[str, ...]]
    NUM_CLIPS: ClassVar[dict[str, int]]

    def __init__(self, *, file_format: str | None = "array_record", **kwargs: Any):
        super().__init__(file_format=file_format, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return self.dataset_info_from_configs(
            features=video_features(config.num_frames, config.image_size, self.LABELS),
            # Records are stored in the order of their numbers, in which labels take turns: the
            # first n clips of a split are as balanced as the whole.
            disable_shuffling=True,
        )
