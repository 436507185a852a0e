"""Decoding clips: the right frames and pixels, as the ffmpeg program decodes them."""

import numpy as np
import pytest
from av.video.reformatter import Colorspace
from clip_files import decode, ffmpeg, write

from data_builders.moving_shapes import render
from flowvid.data import decoding
from flowvid.errors import ClipError

pytest_plugins = ["clip_files"]

SIZE = 64


def read_by_ffmpeg(path, num_frames):
    """The frames as the ffmpeg program crops and scales them."""
    filters = f"crop='min(iw,ih)':'min(iw,ih)',scale={SIZE}:{SIZE}:flags=area"
    raw = ffmpeg(
        *("-i", path, "-frames:v", num_frames, "-fps_mode", "passthrough", "-vf", filters),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
    )
    return np.frombuffer(raw, np.uint8).reshape(num_frames, SIZE, SIZE, 3)


def distance(video, other):
    """Mean absolute difference in grey levels."""
    return np.abs(video.astype(int) - other).mean()


@pytest.fixture(scope="module")
def footage():
    """35 frames of 256 x 256 with texture, moving objects and sensor noise."""
    return render.render_clip(0, "train", 0, num_frames=35, image_size=256)[0]


def test_blocks_of_the_centre_square_are_averaged(tmp_path, noise):
    write(tmp_path / "clip.mkv", noise)
    read = decoding.read_clip(tmp_path / "clip.mkv", 5, 8)
    square = noise[:5, :, 8:32].astype(float)
    expected = square.reshape(5, 8, 3, 8, 3, 3).mean(axis=(2, 4))
    assert np.abs(read - expected).max() <= 1


def test_pixels_keep_their_own_size(tmp_path, noise):
    write(tmp_path / "clip.mkv", noise)
    read = decoding.read_clip(tmp_path / "clip.mkv", None, 24)
    np.testing.assert_array_equal(read, noise[:, :, 8:32])


def test_a_portrait_clip_loses_top_and_bottom(tmp_path, noise):
    portrait = noise.swapaxes(1, 2)
    write(tmp_path / "clip.mkv", portrait)
    read = decoding.read_clip(tmp_path / "clip.mkv", None, 24)
    np.testing.assert_array_equal(read, portrait[:, 8:32])


def test_grey_becomes_three_equal_channels(tmp_path, noise):
    write(tmp_path / "clip.mkv", noise[..., 0], pixels="gray")
    read = decoding.read_clip(tmp_path / "clip.mkv", 12, 24)
    np.testing.assert_array_equal(read, np.repeat(noise[:, :, 8:32, :1], 3, axis=-1))


@pytest.mark.parametrize(
    ("start", "stride", "num_frames"), [(0, 1, 12), (3, 1, 9), (0, 4, 3), (2, 3, 4), (11, 5, 1)]
)
def test_start_and_stride_choose_frames(tmp_path, noise, start, stride, num_frames):
    write(tmp_path / "clip.mkv", noise)
    data = (tmp_path / "clip.mkv").read_bytes()
    expected = noise[start::stride, :, 8:32][:num_frames]
    read = decode(data, num_frames, 24, start=start, stride=stride)
    np.testing.assert_array_equal(read, expected)
    everything = decode(data, None, 24, start=start, stride=stride)
    np.testing.assert_array_equal(everything, noise[start::stride, :, 8:32])
    too_many = start + stride * num_frames + 1
    with pytest.raises(ClipError, match=f"12 frames, but {too_many} are needed"):
        decode(data, num_frames + 1, 24, start=start, stride=stride)


def test_a_start_behind_the_end_is_refused(tmp_path, noise):
    write(tmp_path / "clip.mkv", noise)
    with pytest.raises(ClipError, match="12 frames, but 13 are needed"):
        decode((tmp_path / "clip.mkv").read_bytes(), None, start=12)


CUTS = {
    "square": (slice(None), slice(None)),
    "wide": (slice(50, 146), slice(170)),
    "tall": (slice(None), slice(60, 156)),
    "odd": (slice(171), slice(97)),
}


@pytest.mark.parametrize(
    ("cut", "name", "codec", "pixels"),
    [
        ("square", "clip.mp4", "libx264", "yuv420p"),
        ("wide", "clip.mp4", "libx264", "yuv420p"),
        ("tall", "clip.mp4", "libx264", "yuv420p"),
        ("odd", "clip.mp4", "libx264", "yuv444p"),
        ("odd", "clip.mkv", "ffv1", "yuv420p"),
        ("wide", "clip.mov", "libx264", "yuv422p10le"),
        ("wide", "clip.mov", "mjpeg", "yuvj420p"),
        ("wide", "clip.mkv", "libx264", "yuv420p"),
        ("wide", "clip.webm", "libvpx", "yuv420p"),
        ("wide", "clip.avi", "mpeg4", "yuv420p"),
        ("wide", "clip.mpg", "mpeg2video", "yuv420p"),
        ("wide", "clip.gif", "gif", "rgb8"),
    ],
)
def test_pixels_are_those_of_the_ffmpeg_program(tmp_path, footage, cut, name, codec, pixels):
    write(tmp_path / name, footage[:, *CUTS[cut]], codec, pixels)
    read = decoding.read_clip(tmp_path / name, 30, SIZE)
    assert read.shape == (30, SIZE, SIZE, 3)
    assert distance(read, read_by_ffmpeg(tmp_path / name, 30)) < 2
    assert distance(read, read[:, :, ::-1]) > 5  # so the measure sees other pixels


@pytest.mark.parametrize("angle", [90, 180, 270])
@pytest.mark.parametrize("cut", ["wide", "tall"])
def test_clips_turned_by_their_metadata_stand_upright(tmp_path, footage, cut, angle):
    write(tmp_path / "clip.mp4", footage[:, *CUTS[cut]], "libx264", "yuv420p")
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", angle, "-i", tmp_path / "clip.mp4", "-c", "copy", turned)
    read = decoding.read_clip(turned, 30, SIZE)
    assert distance(read, read_by_ffmpeg(turned, 30)) < 2
    assert distance(read, decoding.read_clip(tmp_path / "clip.mp4", 30, SIZE)) > 5


@pytest.mark.parametrize("colours", [Colorspace.ITU601, Colorspace.ITU709])
def test_colours_are_those_that_were_stored(tmp_path, colours):
    video = np.zeros((2, 32, 96, 3), np.uint8)
    video[:, :, 32:64] = (200, 40, 90)  # the centre square
    write(tmp_path / "clip.mp4", video, "libx264", "yuv420p", colours, crf="1")
    read = decoding.read_clip(tmp_path / "clip.mp4", 2, 32)
    assert np.abs(read[:, 8:24, 8:24].astype(int) - (200, 40, 90)).max() <= 4


def test_frames_are_counted_as_they_are_stored(tmp_path, ramp, ramp_mp4):
    uneven = tmp_path / "uneven.mp4"
    times = "setpts='if(lt(N,10),N,10+(N-10)*7)/25/TB'"
    ffmpeg("-i", ramp_mp4, "-vf", times, "-fps_mode", "vfr", uneven)
    read = decoding.read_clip(uneven, None, 16)
    assert len(read) == 100
    assert np.abs(read.astype(int) - ramp[:, :16, :16]).max() <= 3
