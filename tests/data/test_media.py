"""Writing clips, images and contact sheets."""

import av
import numpy as np
import pytest
from PIL import Image

from flowvid.data import decoding, media
from flowvid.errors import ClipError


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 24, 40, 3), np.uint8)


@pytest.fixture
def ramp() -> np.ndarray:
    """Flat frames, each a little brighter than the one before."""
    return np.broadcast_to(
        np.arange(20, 220, 20, dtype=np.uint8)[:, None, None, None], (10, 16, 16, 3)
    )


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".webm"])
def test_what_is_written_is_read_back(tmp_path, ramp, suffix):
    path = tmp_path / "new" / f"clip{suffix}"
    media.write_video(path, ramp)
    read = decoding.read_clip(path, None, 16)
    assert read.shape == ramp.shape
    assert np.abs(read.astype(int) - ramp).max() <= 3


def test_gif_loops_at_its_rate_and_is_enlarged(tmp_path, ramp):
    media.write_video(tmp_path / "clip.gif", ramp, fps=5, scale=3)
    with Image.open(tmp_path / "clip.gif") as gif:
        assert (gif.size, gif.n_frames) == ((48, 48), 10)
        assert (gif.info["loop"], gif.info["duration"]) == (0, 200)


def test_mp4_is_what_browsers_play_also_at_odd_sizes(tmp_path, noise):
    media.write_video(tmp_path / "clip.mp4", noise[:, :15, :17], fps=25, scale=1)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        assert (codec.name, codec.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 25)
        assert (codec.height, codec.width, stream.frames) == (16, 18, 12)


def test_write_video_refuses_another_suffix(tmp_path, ramp):
    with pytest.raises(ClipError, match=r"cannot write '\.avi'; use one of \.gif, \.mp4, \.webm"):
        media.write_video(tmp_path / "clip.avi", ramp)


def test_contact_sheet_places_evenly_drawn_frames(noise):
    videos = np.stack([noise, noise[::-1]])
    sheet = media.contact_sheet(videos, columns=3, scale=1)
    assert sheet.shape == (2 + 2 * 26, 2 + 3 * 42, 3)
    for column, time in enumerate((0, 6, 11)):  # 5.5 rounds to even
        left = 2 + 42 * column
        np.testing.assert_array_equal(sheet[2:26, left : left + 40], videos[0, time])
        np.testing.assert_array_equal(sheet[28:52, left : left + 40], videos[1, time])


def test_contact_sheet_enlarges_and_shows_all_frames_of_short_videos(noise):
    sheet = media.contact_sheet(noise[None, :2, :24, :24])
    assert sheet.shape == (2 + 98, 2 + 2 * 98, 3)
    np.testing.assert_array_equal(sheet[2:98, 100:196], noise[1, :, :24].repeat(4, 0).repeat(4, 1))


def test_contact_sheet_draws_captions(noise):
    videos = np.stack([noise, noise])
    bare = media.contact_sheet(videos, columns=1, scale=1)
    sheet = media.contact_sheet(videos, columns=1, scale=1, captions=("first", "second"))
    margin = sheet.shape[1] - bare.shape[1]
    assert sheet.shape[0] == bare.shape[0]
    np.testing.assert_array_equal(sheet[28:52, margin + 2 : margin + 42], noise[0])
    for text in (sheet[2:26, :margin], sheet[28:52, :margin]):
        assert (text < 128).any()


def test_contact_sheet_wants_a_caption_for_each_video(noise):
    with pytest.raises(ValueError, match="3 captions for 1 videos"):
        media.contact_sheet(noise[None], captions=("a", "b", "c"))


def test_write_image_makes_missing_folders(tmp_path, noise):
    media.write_image(tmp_path / "a" / "b" / "image.png", noise[0])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a/b/image.png")), noise[0])
