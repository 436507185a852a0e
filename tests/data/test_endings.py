"""Every listed ending of a clip is read, and docs/files.md lists the same ones."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from clip_files import ffmpeg, write

from flowvid.data import decoding

pytest_plugins = ["clip_files"]

SIZE, NUM_FRAMES = 24, 6
# As long as the frames: the AMV writer repeats frames until they are as long as the sound.
SOUND = ("-f", "lavfi", "-t", "0.24", "-i", "anullsrc=r=22050:cl=mono", "-c:a", "adpcm_ima_amv")
PAL = ("-s", "720x576")  # as DV has it

# Codec, format and other options with which the ffmpeg program writes a clip.
WRITTEN = {
    **dict.fromkeys(".mp4 .m4v .m4p .insv .lrv .f4v".split(), ("libx264", "mp4")),
    **dict.fromkeys(".mov .qt".split(), ("libx264", "mov")),
    **dict.fromkeys(".3gp .3gpp".split(), ("mpeg4", "3gp")),
    ".3g2": ("mpeg4", "3g2"),
    ".mj2": ("jpeg2000", "mov"),
    ".mkv": ("ffv1", "matroska"),
    ".webm": ("libvpx", "webm"),
    **dict.fromkeys(".avi .divx".split(), ("mpeg4", "avi")),
    ".amv": ("amv", "amv", *SOUND, "-block_size", "882", "-strict", "-1"),
    ".gif": ("gif", "gif"),
    ".apng": ("apng", "apng"),
    **dict.fromkeys(".mpg .mpeg .mpe".split(), ("mpeg1video", "mpeg")),
    ".m1v": ("mpeg1video", "mpeg1video"),
    ".m2v": ("mpeg2video", "mpeg2video"),
    **dict.fromkeys(".vob .mod".split(), ("mpeg2video", "vob")),
    **dict.fromkeys(".ts .m2t .tod".split(), ("mpeg2video", "mpegts")),
    **dict.fromkeys(".mts .m2ts".split(), ("libx264", "mpegts", "-mpegts_m2ts_mode", "1")),
    **dict.fromkeys(".wmv .asf".split(), ("wmv2", "asf")),
    ".wtv": ("mpeg2video", "wtv"),
    ".flv": ("flv", "flv"),
    **dict.fromkeys(".ogv .ogm".split(), ("libtheora", "ogg")),
    **dict.fromkeys(".rm .rmvb".split(), ("rv20", "rm")),
    ".mxf": ("mpeg2video", "mxf"),
    ".dv": ("dvvideo", "dv", *PAL),
    ".nut": ("ffv1", "nut"),
    ".y4m": ("rawvideo", "yuv4mpegpipe"),
    ".ivf": ("libvpx-vp9", "ivf"),
    **dict.fromkeys(".mjpeg .mjpg".split(), ("mjpeg", "mjpeg")),
    **dict.fromkeys(".264 .h264".split(), ("libx264", "h264")),
    **dict.fromkeys(".265 .hevc".split(), ("libx265", "hevc")),
}
FLIC = {".fli": 0xAF11, ".flc": 0xAF12}  # of which the ffmpeg program writes none
PIXELS = {"gif": "rgb8", "apng": "rgb24", "amv": "yuvj420p", "mjpeg": "yuvj420p"}


def shown_by_ffmpeg(path):
    """The centre square of the frames as the ffmpeg program shows them."""
    filters = "format=rgb24,crop='min(iw,ih/sar)':'min(ih,iw*sar)'"
    scale = f"scale={SIZE}:{SIZE}:flags=area"
    raw = ffmpeg(
        *("-i", path, "-fps_mode", "passthrough", "-vf", f"{filters},{scale}"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
    )
    return np.frombuffer(raw, np.uint8).reshape(-1, SIZE, SIZE, 3)


def test_no_ending_is_left_out():
    assert {*WRITTEN, *FLIC} == decoding.CLIP_SUFFIXES


def test_the_page_lists_every_ending():
    page = (Path(__file__).parents[2] / "docs" / "files.md").read_text()
    for kind, endings in (
        ("clips", decoding.CLIP_SUFFIXES | {".webp"}),
        ("images", decoding.IMAGE_SUFFIXES),
    ):
        (row,) = re.findall(rf"^\| {kind} \|(.*)\|$", page, re.MULTILINE)
        assert set(re.findall(r"`(\.\w+)`", row)) == endings


@pytest.mark.parametrize("ending", WRITTEN)
def test_every_ending_is_read(tmp_path, noise, ending):
    path = tmp_path / f"clip{ending}"
    codec, kind, *options = WRITTEN[ending]
    blocks = noise[:NUM_FRAMES, ::8, ::8].repeat(16, axis=1).repeat(16, axis=2)
    write(tmp_path / "stored.mkv", blocks)
    ffmpeg(
        *("-i", tmp_path / "stored.mkv", *options, "-c:v", codec, "-q:v", "2"),
        *("-pix_fmt", PIXELS.get(codec, "yuv420p"), "-f", kind, path),
    )
    read = decoding.read_clip(path, None, SIZE)
    assert len(read) == NUM_FRAMES
    assert np.abs(read.astype(int) - shown_by_ffmpeg(path)).mean() < 3
    assert np.abs(read[1:].astype(int) - read[:-1]).mean() > 20  # so each frame is itself


RAW = {"m1v": "mpeg1video", "m2v": "mpeg2video", "mjpeg": "mjpeg", "h264": "libx264"} | {
    "hevc": "libx265"
}


@pytest.mark.parametrize("num_frames", [1, 2, 30])
@pytest.mark.parametrize("ending", RAW)
def test_streams_without_times_have_all_their_frames(tmp_path, ramp, ending, num_frames):
    write(tmp_path / "stored.mkv", ramp[:num_frames])
    path = tmp_path / f"clip.{ending}"
    ffmpeg("-i", tmp_path / "stored.mkv", "-c:v", RAW[ending], "-q:v", "2", path)
    read = decoding.read_clip(path, None, 16)
    assert np.abs(read.astype(int) - ramp[:num_frames, :16, :16]).max() <= 4


def flic(magic, levels):
    """An animation of flat frames of 24 x 24 pixels of these levels of grey."""

    def chunk(kind, data):
        return struct.pack("<IH", 6 + len(data), kind) + data

    greys = np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes()
    colours = chunk(4, struct.pack("<HBB", 1, 0, 0) + greys)
    frames = [
        chunk(0xF1FA, bytes([2]) + bytes(9) + colours + chunk(16, bytes([v]) * 576)) for v in levels
    ]
    size = 128 + sum(map(len, frames))
    header = struct.pack("<IHHHHHHI", size, magic, len(levels), 24, 24, 8, 3, 40)
    return header.ljust(128, b"\0") + b"".join(frames)


@pytest.mark.parametrize("ending", FLIC)
def test_flic_animations_are_read(tmp_path, ending):
    levels = [10, 120, 250]
    (tmp_path / f"clip{ending}").write_bytes(flic(FLIC[ending], levels))
    read = decoding.read_clip(tmp_path / f"clip{ending}", None, 8)
    np.testing.assert_array_equal(
        read, np.broadcast_to(np.reshape(levels, (3, 1, 1, 1)), (3, 8, 8, 3))
    )
