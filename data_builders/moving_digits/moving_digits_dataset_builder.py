"""The TFDS builder of moving_digits."""

from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from data_builders import features
from data_builders.moving_digits import digits, render
from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes


class Builder(tfds.core.GeneratorBasedBuilder):
    """Generates moving_digits; records are ArrayRecord, readable by index."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = moving_shapes.Builder.BUILDER_CONFIGS
    NUM_CLIPS: ClassVar = {"train": 4096, "validation": 512}
    SEED = 1  # with moving_shapes' 0, clips of the same number would have the same ground

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
        del dl_manager  # `digits` knows where they are
        images = digits.load(str(self.data_dir_root))
        return {split: self._generate_examples(split, images[split]) for split in images}

    def _generate_examples(
        self, split: str, images: digits.Images
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(self.NUM_CLIPS[split]):
            video, label = render.render_clip(
                self.SEED,
                split,
                index,
                images,
                num_frames=self.builder_config.num_frames,
                image_size=self.builder_config.image_size,
            )
            yield index, {"video": video, "label": label, "id": f"{split}_{index:05d}"}
