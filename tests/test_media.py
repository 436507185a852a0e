"""Reading and writing clips and images."""

import wave
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from flowvid import media


def write_lossless(path: Path, video: np.ndarray) -> None:
    """FFV1, uint8[T, H, W, 3] or grey [T, H, W]: what is read back is exactly what was written."""
    pixels, stored = ("rgb24", "bgr0") if video.ndim == 4 else ("gray", "gray")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = stored
        for frame in video:
            picture = av.VideoFrame.from_ndarray(frame, format=pixels).reformat(format=stored)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 24, 40, 3), np.uint8)


def test_read_clip_averages_blocks_of_the_centre_square(tmp_path, noise):
    write_lossless(tmp_path / "clip.mkv", noise)
    read = media.read_clip(tmp_path / "clip.mkv", 5, 8)
    square = noise[:5, :, 8:32].astype(float)
    expected = square.reshape(5, 8, 3, 8, 3, 3).mean(axis=(2, 4))
    assert np.abs(read - expected).max() <= 1  # Pillow rounds after each of the two directions


def test_read_clip_keeps_pixels_at_their_own_size(tmp_path, noise):
    write_lossless(tmp_path / "clip.mkv", noise)
    read = media.read_clip(tmp_path / "clip.mkv", None, 24)
    np.testing.assert_array_equal(read, noise[:, :, 8:32])


def test_read_clip_of_a_portrait_clip_cuts_top_and_bottom(tmp_path, noise):
    portrait = noise.swapaxes(1, 2)
    write_lossless(tmp_path / "clip.mkv", portrait)
    read = media.read_clip(tmp_path / "clip.mkv", None, 24)
    np.testing.assert_array_equal(read, portrait[:, 8:32])


def test_read_clip_gives_grey_three_equal_channels(tmp_path, noise):
    write_lossless(tmp_path / "clip.mkv", noise[..., 0])
    read = media.read_clip(tmp_path / "clip.mkv", 12, 24)
    np.testing.assert_array_equal(read, np.repeat(noise[:, :, 8:32, :1], 3, axis=-1))


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_text(path: Path) -> None:
    path.write_text("this is not a video\n" * 100)


def make_sound(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))


def make_short(path: Path) -> None:
    media.write_video(path, np.zeros((4, 16, 16, 3), np.uint8), scale=1)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file"),
        (make_empty, "Invalid data"),
        (make_text, "Invalid data"),
        (make_sound, "no video stream"),
        (make_short, "4 frames, but 5 are needed"),
    ],
)
def test_read_clip_names_the_path_and_the_reason(tmp_path, make, reason):
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(media.ClipError, match=reason) as raised:
        media.read_clip(path, 5, 16)
    assert str(path) in str(raised.value)


@pytest.fixture
def ramp() -> np.ndarray:
    """Flat frames, each a little brighter than the one before."""
    return np.broadcast_to(
        np.arange(20, 220, 20, dtype=np.uint8)[:, None, None, None], (10, 16, 16, 3)
    )


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_what_is_written_is_read_back(tmp_path, ramp, suffix):
    path = tmp_path / "new" / f"clip{suffix}"
    media.write_video(path, ramp)
    read = media.read_clip(path, None, 16)
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
    with pytest.raises(media.ClipError, match=r"cannot write '\.avi'; use one of \.gif, \.mp4"):
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
