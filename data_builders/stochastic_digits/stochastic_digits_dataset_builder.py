"""The TFDS builder of stochastic_digits."""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from data_builders import generated_builder
from data_builders.moving_digits import digits
from data_builders.stochastic_digits import render

NUM_TRAIN_IMAGES = 400  # of each digit; the test split shows the other 50 of moving_digits' train


@dataclasses.dataclass(eq=False)
class StochasticConfig(generated_builder.GeneratedConfig):
    """The image size and the length of the clips, and how many digits move in them.

    Attributes:
      num_digits: digits per clip.
    """

    num_digits: int = 2


class Builder(generated_builder.Builder):
    """Generates stochastic_digits."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [
        StochasticConfig(name=f"{size}x{size}_30f{suffix}", image_size=size, num_digits=number)
        for number, suffix in ((2, ""), (1, "_one_digit"))
        for size in (64, 32)
    ]
    LABELS = ("unlabelled",)  # as clips of a folder without labels
    NUM_CLIPS: ClassVar = {"train": 4096, "validation": 512, "test": 512}
    SEED = 2

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # `digits` knows where they are
        images = split_images(digits.load(str(self.data_dir_root)))
        return {split: self._generate_examples(split, images[split]) for split in self.NUM_CLIPS}

    def _generate_examples(
        self, split: str, images: digits.Images
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(self.NUM_CLIPS[split]):
            video = render.render_clip(
                self.SEED,
                split,
                index,
                images,
                num_frames=self.builder_config.num_frames,
                image_size=self.builder_config.image_size,
                num_digits=self.builder_config.num_digits,
            )
            yield index, {"video": video, "label": self.LABELS[0], "id": f"{split}_{index:05d}"}


def split_images(images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the images of train, validation and test, no image in two of them.

    Args:
      images: those of train and validation, as `digits.load` returns them.
    """
    train, test = images["train"][:, :NUM_TRAIN_IMAGES], images["train"][:, NUM_TRAIN_IMAGES:]
    return {"train": train, "validation": images["validation"], "test": test}
