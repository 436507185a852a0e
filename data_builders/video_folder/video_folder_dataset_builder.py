"""The TFDS builder of a folder of your own clips or images."""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds
from etils import epath

from data_builders import clip_builder
from data_builders.listing import HIDDEN, Item, counted
from data_builders.video_folder import folder
from flowvid.errors import DataError
from flowvid.sizes import Size, SizeLike


@dataclasses.dataclass(eq=False)
class VideoFolderConfig(clip_builder.ClipConfig):
    """Which frames are taken of the clips of which folder.

    Attributes:
      path: the folder or zip file.
      fingerprint: what `folder.list_folder` returned for it when the config was made; a
        preparation refuses any other. Empty where any is accepted.
    """

    path: str = ""
    fingerprint: str = ""


def config_of(
    path: Path, num_frames: int, image_size: SizeLike, max_skipped: float
) -> VideoFolderConfig:
    """Returns the config of a folder as it is now; its name changes when a file changes.

    Raises:
      DataError: if there is nothing to prepare, or if images are to have more than one frame.
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
    size = f"{Size.of(image_size).both}_{num_frames}f"
    return VideoFolderConfig(
        name=f"{title}-{place[:8]}-{listing.fingerprint[:8]}-{size}",
        image_size=image_size,
        num_frames=num_frames,
        max_skipped=max_skipped,
        path=str(path),
        fingerprint=listing.fingerprint,
    )


def _list_unchanged(path: Path, fingerprint: str) -> folder.Listing:
    """Lists a folder.

    Raises:
      DataError: if its files are not those of the fingerprint.
    """
    listing = folder.list_folder(path)
    if fingerprint not in ("", listing.fingerprint):
        raise DataError(
            f"The files in {path} changed while they were being prepared: run the same command "
            "again when nothing writes to that folder."
        )
    return listing


def _list_split(path: Path, fingerprint: str, split: str) -> Sequence[Item]:
    return _list_unchanged(path, fingerprint).splits[split]


class Builder(clip_builder.Builder):
    """Prepares a folder or zip file of clips or images; see `folder.list_folder`."""

    VERSION = tfds.core.Version("1.2.0")
    RELEASE_NOTES: ClassVar = {
        "1.0.0": "First release.",
        "1.1.0": "Adds the split test: the folder test/, or a tenth of the files, once of train.",
        "1.2.0": "Clips and images as they are shown: mirrored, of square pixels, on white.",
    }

    def list_files(self, dl_manager: tfds.download.DownloadManager) -> clip_builder.Listing:
        """Lists the files below the config's path."""
        del dl_manager  # the config says where the files are
        path, fingerprint = Path(self.builder_config.path), self.builder_config.fingerprint
        listing = _list_unchanged(path, fingerprint)
        self.info.features["label"].names = listing.labels
        splits: dict[str, Callable[[], Sequence[Item]]] = {
            split: functools.partial(_list_split, path, fingerprint, split)
            for split in listing.splits
        }
        root = path if path.is_dir() else path.parent
        return clip_builder.Listing(splits, str(root), listing.hashed & {"test"})

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        super()._download_and_prepare(dl_manager, download_config)
        config = self.builder_config
        # A file that changed while others were decoded is found here, before the records count
        # as prepared.
        listing = _list_unchanged(Path(config.path), config.fingerprint)
        for name, note in _notes(listing).items():
            (epath.Path(self.data_path) / f"summary-{name}.txt").write_text(
                f"{name}: {note}\n", encoding="utf-8"
            )


def _notes(listing: folder.Listing) -> dict[str, str]:
    """Returns what to report beside the numbers of files per split, by the names of the reports."""
    notes = {}
    if "test" not in listing.splits:
        notes["test"] = (
            "no such split, since the folder is small: none of the file names falls into its tenth"
            if listing.hashed
            else "no such split, since there is no folder test/ beside train/ and validation/"
        )
    ignored = [entry for entry in listing.ignored if entry.reason != HIDDEN]
    if ignored:
        notes["ignored"] = counted(ignored)
    return notes
