"""The TFDS builder of moving_digits."""

from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from data_builders import generated_builder
from data_builders.moving_digits import digits, render


class Builder(generated_builder.Builder):
    """Generates moving_digits."""

    LABELS = render.LABELS
    NUM_CLIPS: ClassVar = {"train": 4096, "validation": 512, "test": 512}
    # Not the seed of moving_shapes, 0, with which clips of the same number would have the same
    # background.
    SEED = 1

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # `digits` knows where they are
        images = digits.load(str(self.data_dir_root))
        if "test" in self.NUM_CLIPS:
            shown = render.images_shown(
                self.SEED, "train", self.NUM_CLIPS["train"], images["train"].shape[1]
            )
            images["test"] = digits.unseen(images["train"], shown)
        return {split: self._generate_examples(split, images[split]) for split in self.NUM_CLIPS}

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
