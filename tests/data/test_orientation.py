"""Clips stand upright by their Exif data and by matrices that only their first frame carries."""

import numpy as np
import pytest
from clip_files import ffmpeg, write
from PIL import Image

from flowvid.data import decoding

pytest_plugins = ["clip_files"]

SIZE = 24
ORIENTATION, MAKER = 0x112, 0x10F  # tags of Exif

# What each value of the tag says is to be done to a stored picture.
UPRIGHT = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}


@pytest.fixture(scope="module")
def blocks(noise):
    """Frames of blocks of 8 pixels, which JPEG keeps."""
    return noise[:5, ::8, ::8].repeat(8, axis=1).repeat(8, axis=2)


def write_with_exif(path, video, orientation):
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKER] = orientation, "a camera"
    frames = [Image.fromarray(frame) for frame in video]
    if path.suffix in (".webp", ".apng"):
        kind = {".webp": "WEBP", ".apng": "PNG"}[path.suffix]
        more = {"lossless": True} if kind == "WEBP" else {}
        frames[0].save(path, kind, save_all=True, append_images=frames[1:], exif=exif, **more)
        return
    with path.with_suffix(".mjpeg").open("wb") as file:
        for frame in frames:
            frame.save(file, "JPEG", quality=100, subsampling=0, exif=exif)
    ffmpeg("-i", path.with_suffix(".mjpeg"), "-c", "copy", path)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_another_shape_is_that_of_the_upright_picture(tmp_path, blocks, orientation):
    path = tmp_path / "clip.apng"
    write_with_exif(path, blocks, orientation)
    height, width = UPRIGHT[orientation](blocks[0]).shape[:2]
    size = (height // 2, width // 2)
    whole = UPRIGHT[orientation](blocks[0])
    halved = whole.reshape(size[0], 2, size[1], 2, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(decoding.read_clip(path, 1, size)[0], halved)
    wide = decoding.read_clip(path, 1, (8, width))[0]
    middle = whole[height // 2 - 4 : height // 2 + 4]
    np.testing.assert_array_equal(wide, middle)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("ending", [".mov", ".avi", ".apng", ".webp"])
def test_every_frame_is_turned_by_exif(tmp_path, blocks, ending, orientation):
    path = tmp_path / f"clip{ending}"
    write_with_exif(path, blocks, orientation)
    expected = np.stack([UPRIGHT[orientation](frame[:, 8:32]) for frame in blocks])
    read = decoding.read_clip(path, None, SIZE)
    assert np.abs(read.astype(int) - expected).max() <= (0 if ending in (".apng", ".webp") else 3)
    with path.open("rb") as file:
        late = decoding.decode_clip(file, None, SIZE, start=3)
    np.testing.assert_array_equal(late, read[3:])


def test_a_matrix_holds_for_the_frames_after_it(tmp_path, blocks):
    """H.264 may state its display orientation in the first frame alone."""
    write(tmp_path / "stored.mp4", blocks, "libx264", "yuv444p", crf="1", bf="0")
    turn = "h264_metadata=display_orientation=insert:rotate=90"
    ffmpeg("-i", tmp_path / "stored.mp4", "-c", "copy", "-bsf:v", turn, tmp_path / "turned.mp4")
    stored = decoding.read_clip(tmp_path / "stored.mp4", None, SIZE)
    turned = decoding.read_clip(tmp_path / "turned.mp4", None, SIZE)
    np.testing.assert_array_equal(turned, np.rot90(stored, 1, (1, 2)))
