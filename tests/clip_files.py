"""Writes video files with PyAV and the ffmpeg program, and decodes bytes, for tests.

A test file uses the fixtures by `pytest_plugins = ["clip_files"]`.
"""

import subprocess
import tempfile

import av
import imageio_ffmpeg
import numpy as np
import pytest

from flowvid.data import decoding


def write(path, video, codec="ffv1", pixels="bgr0", colours=None, **options):
    """Writes uint8[T, H, W, 3] or grey [T, H, W]; FFV1 keeps every value."""
    given = "rgb24" if video.ndim == 4 else "gray"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = pixels
        if colours is not None:
            stream.codec_context.colorspace = colours
        for frame in video:
            picture = av.VideoFrame.from_ndarray(frame, format=given)
            picture = picture.reformat(format=pixels, dst_colorspace=colours)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def ffmpeg(*args):
    """Runs the ffmpeg program; its standard output."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, args)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def decode(data, num_frames=30, image_size=16, **window):
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        return decoding.decode_clip(file, num_frames, image_size, **window)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (12, 24, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def ramp():
    """100 flat frames, each 2 grey levels brighter than the one before."""
    levels = np.arange(20, 220, 2, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(levels, (100, 32, 48, 3))


@pytest.fixture(scope="module")
def ramp_mp4(ramp, tmp_path_factory):
    """The ramp with its index first and every frame stored in the order it is shown."""
    path = tmp_path_factory.mktemp("ramp") / "clip.mp4"
    write(path, ramp, "libx264", "yuv420p", bf="0")
    ffmpeg("-i", path, "-c", "copy", "-movflags", "+faststart", path.with_name("fast.mp4"))
    return path.with_name("fast.mp4")
