"""Decoding files of any kind: within bounds of time and memory, or an error with the reason."""

import time
import wave

import av
import numpy as np
import pytest
from clip_files import decode, ffmpeg, write

from flowvid.data import decoding, media, pictures
from flowvid.errors import ClipError

pytest_plugins = ["clip_files"]


def test_nothing_behind_the_last_wanted_frame_is_read(tmp_path, ramp, ramp_mp4):
    with av.open(str(ramp_mp4)) as container:
        position = [packet.pos for packet in container.demux(video=0)][40]
    cut = ramp_mp4.read_bytes()[:position]
    read = decode(cut)
    assert np.abs(read.astype(int) - ramp[:30, :16, :16]).max() <= 3
    with pytest.raises(ClipError, match=r"not readable|frames, but 60 are needed"):
        decode(cut, 60)


def test_a_clip_of_many_frames_takes_no_longer(tmp_path):
    long = tmp_path / "long.mp4"
    source = "color=size=64x48:rate=25:duration=80"  # 2,000 frames
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "mpeg4", "-g", "10", long)

    def seconds(num_frames):
        start = time.perf_counter()
        assert len(decoding.read_clip(long, num_frames, 16)) == (num_frames or 2000)
        return time.perf_counter() - start

    assert min(seconds(30) for _ in range(3)) < seconds(None) / 5


def test_the_time_for_a_clip_is_limited(ramp_mp4, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_SECONDS", 0)
    with pytest.raises(ClipError, match=r"fast\.mp4: took longer than 0 seconds"):
        decoding.read_clip(ramp_mp4, 30, 16)


def test_frames_of_too_many_pixels_are_refused(ramp_mp4, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 32 * 48)
    decoding.read_clip(ramp_mp4, 30, 16)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 32 * 48 - 1)
    with pytest.raises(ClipError, match="48x32 pixels, but at most 1535 are read"):
        decoding.read_clip(ramp_mp4, 30, 16)


def test_frames_that_grow_are_refused(tmp_path, ramp, monkeypatch):
    write(tmp_path / "small.mpg", ramp[:30, :16, :16], "mpeg2video", "yuv420p")
    write(tmp_path / "large.mpg", ramp[:30], "mpeg2video", "yuv420p")
    both = (tmp_path / "small.mpg").read_bytes() + (tmp_path / "large.mpg").read_bytes()
    read = decode(both, 50)
    assert read.shape == (50, 16, 16, 3)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 16 * 16)
    with pytest.raises(ClipError, match="48x32 pixels"):
        decode(both, 50)


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile fast.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfast.mp4\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_playlist_opens_no_other_file(ramp_mp4, monkeypatch, playlist):
    monkeypatch.chdir(ramp_mp4.parent)
    path = ramp_mp4.with_name("list.mp4")
    path.write_text(playlist)
    with pytest.raises(ClipError, match="not readable as video"):
        decoding.read_clip(path, 30, 16)
    if playlist.startswith("ffconcat"):  # FFmpeg would follow it
        monkeypatch.setattr(decoding, "_FORMATS", decoding._FORMATS + ",concat")
        assert len(decoding.read_clip(path, 30, 16)) == 30


def make_nothing(path):
    del path


def make_empty(path):
    path.write_bytes(b"")


def make_text(path):
    path.write_text("this is not a video\n" * 100)


def make_sound(path):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    ffmpeg("-f", "wav", "-i", path, "-f", "mp4", path.with_name("sound.mp4"))
    path.with_name("sound.mp4").rename(path)


def make_short(path):
    media.write_video(path, np.zeros((4, 16, 16, 3), np.uint8), scale=1)


def make_cut_off(path):
    media.write_video(path, np.zeros((40, 16, 16, 3), np.uint8), scale=1)
    path.write_bytes(path.read_bytes()[:-2000])  # its index is at the end


def make_unknown_codec(path):
    write(path.with_name("clip.mkv"), np.zeros((5, 16, 16, 3), np.uint8))
    data = path.with_name("clip.mkv").read_bytes()
    assert b"V_FFV1" in data
    path.write_bytes(data.replace(b"V_FFV1", b"V_NONE"))


def make_folder(path):
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_nothing, r"not readable \(No such file"),
        (make_folder, r"not readable \(Is a directory"),
        (make_empty, "not readable as video"),
        (make_text, r"not readable as video \(Invalid data"),
        (make_cut_off, r"not readable as video \(Invalid data"),
        (make_sound, "no video stream"),
        (make_unknown_codec, "no decoder for its video stream"),
        (make_short, "4 frames, but 5 are needed"),
    ],
)
def test_the_path_and_the_reason_are_named(tmp_path, make, reason):
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(ClipError, match=reason) as raised:
        decoding.read_clip(path, 5, 16)
    assert str(raised.value).startswith(f"{path}: ")


def test_titles_need_not_be_utf8(tmp_path, ramp_mp4):
    path = tmp_path / "clip.mp4"
    ffmpeg("-i", ramp_mp4, "-c", "copy", "-metadata", "title=caf\udce9", path)
    assert b"caf\xe9" in path.read_bytes()
    assert len(decoding.read_clip(path, 30, 16)) == 30


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".webm", ".gif"])
def test_damage_of_any_kind_is_a_clip_error(tmp_path, ramp, suffix):
    codec, pixels = {".gif": ("gif", "rgb8"), ".webm": ("libvpx", "yuv420p")}.get(
        suffix, ("mpeg4", "yuv420p")
    )
    write(tmp_path / f"clip{suffix}", ramp[:32], codec, pixels)
    whole, rng = (tmp_path / f"clip{suffix}").read_bytes(), np.random.default_rng(0)
    refused = 0
    for number in range(40):
        data = bytearray(whole)
        for place in rng.integers(0, len(data) if number % 2 else 600, size=8):
            data[place] = rng.integers(256)
        try:
            assert decode(bytes(data)).shape == (30, 16, 16, 3)
        except ClipError:
            refused += 1
    assert refused > 0
