"""The TFDS builder of moving_shapes."""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from data_builders import features
from data_builders.moving_shapes import render


@dataclasses.dataclass(eq=False)
class MovingShapesConfig(tfds.core.BuilderConfig):
    """Image size and length of the clips; the name says both."""

    image_size: int = 64
    num_frames: int = 30


def _config(image_size: int, num_frames: int) -> MovingShapesConfig:
    name = f"{image_size}x{image_size}_{num_frames}f"
    return MovingShapesConfig(name=name, image_size=image_size, num_frames=num_frames)


class Builder(tfds.core.GeneratorBasedBuilder):
    """Generates moving_shapes; records are ArrayRecord, readable by index."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [_config(64, 30), _config(32, 30)]
    NUM_CLIPS: ClassVar = {"train": 4096, "validation": 256}
    SEED = 0

    def __init__(self, *, file_format: str | None = "array_record", **kwargs: Any):
        super().__init__(file_format=file_format, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return self.dataset_info_from_configs(
            features=features.video_features(config.num_frames, config.image_size, render.LABELS),
            # Records stand in the order of their numbers, in which labels take turns: the first
            # n clips of a split are as balanced as the whole.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split) for split in render.SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(self.NUM_CLIPS[split]):
            video, label = render.render_clip(
                self.SEED,
                split,
                index,
                num_frames=self.builder_config.num_frames,
                image_size=self.builder_config.image_size,
            )
            yield index, {"video": video, "label": label, "id": f"{split}_{index:05d}"}
