"""The TFDS builder of a folder of your own clips or images."""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from data_builders import clip_builder
from data_builders.files import Item
from data_builders.video_folder import folder
from flowvid.errors import DataError


@dataclasses.dataclass(eq=False)
class VideoFolderConfig(clip_builder.ClipConfig):
    """Which frames of which folder.

    Attributes:
      path: the folder or zip file.
    """

    path: str = ""


def config_of(
    path: Path, num_frames: int, image_size: int, max_skipped: float
) -> VideoFolderConfig:
    """The config of a folder as it is now; its name is another one once a file has changed.

    Raises:
      DataError: there is nothing to prepare, or images where more than one frame is asked for.
    """
    path = path.resolve()
    listing = folder.list_folder(path)
    if listing.are_images and num_frames > 1:
        raise DataError(
            f"{path} holds single images, but {num_frames} frames were asked for; use "
            "--num_frames=1, which trains the head alone."
        )
    title = re.sub(r"\W+", "_", path.stem, flags=re.ASCII)[:40]
    place = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()
    size = f"{image_size}x{image_size}_{num_frames}f"
    return VideoFolderConfig(
        name=f"{title}-{place[:8]}-{listing.fingerprint[:8]}-{size}",
        image_size=image_size,
        num_frames=num_frames,
        max_skipped=max_skipped,
        path=str(path),
    )


def _list_split(path: Path, split: str) -> Sequence[Item]:
    return folder.list_folder(path).splits[split]


class Builder(clip_builder.Builder):
    """Prepares a folder or zip file of clips or images; see `folder.list_folder`."""

    def list_files(self, dl_manager: tfds.download.DownloadManager) -> clip_builder.Listing:
        """The files below the config's path."""
        del dl_manager  # the config says where the files are
        path = Path(self.builder_config.path)
        listing = folder.list_folder(path)
        self.info.features["label"].names = listing.labels
        splits: dict[str, Callable[[], Sequence[Item]]] = {
            split: functools.partial(_list_split, path, split) for split in listing.splits
        }
        root = path if path.is_dir() else path.parent
        return clip_builder.Listing(splits, str(root))
