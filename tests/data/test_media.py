"""Writing clips, images and contact sheets."""

import resource
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

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


def gif_times(path):
    """The durations of a GIF's frames, in milliseconds, as Pillow reads them."""
    with Image.open(path) as gif:
        return [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]


@pytest.mark.parametrize("fps", [1, 7, 10, 12, 15, 24, 25, 30, 40, 50])
def test_gifs_play_at_the_mean_rate_that_was_asked_for(tmp_path, noise, fps):
    media.write_video(tmp_path / "clip.gif", noise, fps=fps, scale=1)
    times = gif_times(tmp_path / "clip.gif")
    assert len(times) == 12
    assert abs(sum(times) / 1000 - 12 / fps) <= 0.005  # half a hundredth of a second
    assert max(times) - min(times) <= 10
    assert min(times) >= 20


@pytest.mark.parametrize("fps", [51, 60, 100, 240])
def test_gifs_are_not_faster_than_browsers_play_them(tmp_path, noise, fps):
    media.write_video(tmp_path / "clip.gif", noise, fps=fps, scale=1)
    assert gif_times(tmp_path / "clip.gif") == [20] * 12


def test_faster_gifs_are_warned_about(tmp_path):
    program = (
        "import numpy, sys; from flowvid.data import media; "
        "[media.write_video(f'{sys.argv[1]}/{i}.gif', numpy.zeros((2, 8, 8, 3), 'uint8'), fps) "
        "for i, fps in enumerate((50, 60, 60))]"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stderr.count("GIFs play at 50 frames per second at most, not 60: use MP4") == 1


STILLS = {
    "all equal": [0] * 30,
    "the first two": [0, 0, 1, 2],
    "the last two": [0, 1, 2, 2],
    "in the middle": [0, 1, 1, 1, 2],
    "there and back": [0, 1, 0, 1],
    "one frame": [0],
}


@pytest.mark.parametrize("case", STILLS)
def test_equal_frames_of_gifs_are_kept(tmp_path, case):
    levels = np.array([20, 120, 220], np.uint8)[STILLS[case]]
    video = np.broadcast_to(levels[:, None, None, None], (len(levels), 16, 16, 3))
    media.write_video(tmp_path / "clip.gif", video)
    np.testing.assert_array_equal(decoding.read_clip(tmp_path / "clip.gif", None, 16), video)
    assert gif_times(tmp_path / "clip.gif") == [100] * len(levels)


def test_gifs_differ_where_frames_differ(tmp_path, noise):
    """Regions that stay equal are not stored again; those that change show their new values."""
    video = np.repeat(noise[:1], 4, axis=0)
    video[1, 3:9, 5:11] = 7
    video[2, 20:, 30:] = 200
    media.write_video(tmp_path / "clip.gif", video, scale=1)
    with Image.open(tmp_path / "clip.gif") as gif:
        frames = [np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(gif)]
    assert len(frames) == 4
    assert (frames[1][3:9, 5:11] == 7).all()
    assert (frames[2][20:, 30:] == 200).all()


def test_mp4_is_what_browsers_play_also_at_odd_sizes(tmp_path, noise):
    media.write_video(tmp_path / "clip.mp4", noise[:, :15, :17], fps=25, scale=1)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        assert (codec.name, codec.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 25)
        assert (codec.height, codec.width, stream.frames) == (16, 18, 12)


@pytest.mark.parametrize("name", ["new.gif", "new.mp4", "new.webm", "old.gif", "new.png"])
def test_on_a_full_disk_there_is_the_whole_file_or_none(tmp_path, noise, name):
    """A limit of the size of files stands for a full disk."""
    (tmp_path / "old.gif").write_bytes(b"as it was")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        with pytest.raises(ClipError, match=rf"{name} cannot be written \(.*\): free space there"):
            if name.endswith(".png"):
                media.write_image(tmp_path / name, noise[0])
            else:
                media.write_video(tmp_path / name, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["old.gif"]
    assert (tmp_path / "old.gif").read_bytes() == b"as it was"


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
