"""A single picture is one frame, whatever its name ends in, and so is a clip of one frame."""

import io

import numpy as np
import pytest
from clip_files import write
from PIL import Image

from flowvid.data import decoding
from flowvid.errors import ClipError, ConfigError

pytest_plugins = ["clip_files"]

KINDS = ("PNG", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "GIF", "JPEG")
EXACT = ("PNG", "BMP", "TIFF", "PPM")


def encode(frames, kind):
    images = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    several = {"save_all": True, "append_images": images[1:]} if images[1:] else {}
    images[0].save(file, kind, **several)
    return file.getvalue()


@pytest.fixture(scope="module")
def greys():
    """Three flat frames of different levels."""
    return np.repeat(np.uint8([40, 120, 200]), 24 * 24 * 3).reshape(3, 24, 24, 3)


@pytest.mark.parametrize("ending", [".gif", ".apng", ".mp4", ".mjpeg"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_one_frame_whatever_its_ending(tmp_path, greys, kind, ending):
    path = tmp_path / f"picture{ending}"
    path.write_bytes(encode(greys[1:2], kind))
    read = decoding.read_clip(path, None, 24)
    assert read.shape == (1, 24, 24, 3)
    assert np.abs(read.astype(int) - 120).max() <= (0 if kind in EXACT else 2)
    assert decoding.is_single(path)
    with pytest.raises(ClipError, match="1 frames, but 2 are needed"):
        decoding.read_clip(path, 2, 24)


def test_the_first_page_is_the_picture(tmp_path, greys):
    path = tmp_path / "pages.gif"
    path.write_bytes(encode(greys, "TIFF"))
    np.testing.assert_array_equal(decoding.read_clip(path, None, 24), greys[:1])


@pytest.mark.parametrize(
    ("ending", "kind"), [(".gif", "GIF"), (".apng", "PNG"), (".webp", "WEBP"), (".gif", "WEBP")]
)
def test_an_animation_is_no_single_frame(tmp_path, greys, ending, kind):
    path = tmp_path / f"animation{ending}"
    path.write_bytes(encode(greys, kind))
    assert not decoding.is_single(path)
    assert len(decoding.read_clip(path, None, 24)) == 3


@pytest.mark.parametrize("num_frames", [1, 2])
def test_a_clip_of_one_frame_is_single(tmp_path, greys, num_frames):
    write(tmp_path / "clip.mp4", greys[:num_frames], "libx264", "yuv420p")
    assert decoding.is_single(tmp_path / "clip.mp4") == (num_frames == 1)


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.webp"])
def test_images_are_single_by_their_names(tmp_path, name):
    (tmp_path / name).write_bytes(b"not decoded")
    assert decoding.is_single(tmp_path / name)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_bytes(b"no clip")])
def test_what_cannot_be_read_is_an_error_with_its_path(tmp_path, make):
    make(tmp_path / "clip.mp4")
    with pytest.raises(ClipError, match=r"/clip\.mp4: not readable"):
        decoding.is_single(tmp_path / "clip.mp4")


NONSENSE = {
    "num_frames=-1": ({"num_frames": -1}, "from 1 on"),
    "num_frames=0": ({"num_frames": 0}, "from 1 on"),
    "image_size=0": ({"image_size": 0}, "of pixels from 1 to 8192"),
    "image_size=-8": ({"image_size": -8}, "of pixels from 1 to 8192"),
    "image_size=1000000": ({"image_size": 1_000_000}, "of pixels from 1 to 8192"),
    "start=-1": ({"start": -1}, "from 0 on"),
    "stride=0": ({"stride": 0}, "from 1 on"),
}


@pytest.mark.parametrize("name", ["clip.png", "clip.gif"])
@pytest.mark.parametrize("case", NONSENSE)
def test_numbers_that_make_no_clip_are_refused(tmp_path, greys, name, case):
    changes, bounds = NONSENSE[case]
    (tmp_path / name).write_bytes(encode(greys[:1], "GIF"))
    window = {"num_frames": 1, "image_size": 8, "start": 0, "stride": 1} | changes
    with pytest.raises(ConfigError, match=f"^{case}: use a whole number {bounds}"):
        with (tmp_path / name).open("rb") as file:
            decoding.decode(file, name, **window)
    if not {"start", "stride"} & set(changes):
        with pytest.raises(ConfigError, match=f"^{case}: use a whole number {bounds}"):
            decoding.read_clip(tmp_path / name, window["num_frames"], window["image_size"])
