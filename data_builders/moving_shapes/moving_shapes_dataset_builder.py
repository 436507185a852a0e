"""The TFDS builder of moving_shapes."""

from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from data_builders import generated_builder
from data_builders.moving_shapes import render


class Builder(generated_builder.Builder):
    """Generates moving_shapes."""

    LABELS = render.LABELS
    NUM_CLIPS: ClassVar = {"train": 4096, "validation": 256, "test": 256}
    SEED = 0

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split) for split in self.NUM_CLIPS}

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
