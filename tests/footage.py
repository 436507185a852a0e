"""Small clips, images and folders of them, and what is prepared from them, for tests.

A test file uses the fixtures by `pytest_plugins = ["footage"]`.
"""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from data_builders import files, listing
from flowvid.data import datasets

_CODECS = {".mp4": "libx264", ".mov": "libx264", ".mkv": "ffv1", ".webm": "libvpx-vp9"} | {
    ".avi": "mpeg4",
    ".gif": "gif",
}


def write_clip(path: Path, level: int, num_frames: int = 4) -> None:
    """Writes a clip of grey frames, 32 x 24, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    with av.open(str(path), "w", format={".mkv": "matroska"}.get(suffix, suffix[1:])) as container:
        stream: Any = container.add_stream(_CODECS[suffix], rate=10)
        stream.width, stream.height = 32, 24
        stream.pix_fmt = "rgb8" if suffix == ".gif" else "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), level, np.uint8), format="rgb24")
        for _ in range(num_frames):
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode())


def write_image(path: Path, level: int) -> None:
    """Writes a grey image, 20 x 12."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 12), (level, level, level)).save(path)


def touch(root: Path, *names: str) -> Path:
    """Creates empty files, which are enough for a list, and returns their folder."""
    root.mkdir(exist_ok=True)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def zipped(root: Path, path: Path, top: str = "") -> Path:
    """Writes a zip file of a folder, with what a Mac adds; `top` is put before each name."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/cat/1.png", b"")
        for name in sorted(root.rglob("*")):
            archive.write(name, top + str(name.relative_to(root)))
    return path


def load(path: str | Path, split: str, data_dir: Path, **wanted: Any) -> datasets.Dataset:
    """Opens a split of a folder, prepared in `data_dir`, by default 4 frames at 8x8."""
    wanted = {"num_frames": 4, "image_size": 8, **wanted}
    return datasets.load(str(path), split, data_dir=data_dir, **wanted)


def load_all(path: str | Path, data_dir: Path, **wanted: Any) -> dict[str, dict[str, Any]]:
    """Returns the examples of all splits of a folder by their ids."""
    splits = [load(path, split, data_dir, **wanted) for split in ("train", "validation")]
    sizes = {"num_frames": 4, "image_size": 8, **wanted}
    if datasets.has_split(str(path), "test", data_dir=data_dir, **sizes):
        splits.append(load(path, "test", data_dir, **wanted))
    items = [split[index] for split in splits for index in range(len(split))]
    found = {item["id"]: item for item in items}
    assert len(found) == len(items)
    return found


def prepared_in(data_dir: Path) -> set[str]:
    """Returns the names of the configs that are prepared."""
    return {path.parent.name for path in data_dir.glob("video_folder/*/1.2.0")}


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes in this process, which saves the seconds that others take to start."""

    def decode_all(decode: Callable, items: list[listing.Item], processes: int) -> Iterator:
        return ((item, decode(item)) for item in items)

    monkeypatch.setattr(files, "decode_in_parallel", decode_all)


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Returns a function after whose call decoding anything is an error."""

    def forbid() -> None:
        def fail(*args: Any) -> Iterator:
            raise AssertionError("decoded again")

        monkeypatch.setattr(files, "decode_in_parallel", fail)

    return forbid


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder with a space in its name and four clips."""
    for name in ("run/a.mkv", "run/b.mkv", "walk/c.mkv", "walk/d.mkv"):
        write_clip(tmp_path / "my clips" / name, 90)
    return tmp_path / "my clips"
