"""Transparency of clips and PNGs is composed on white; what only looks like it is not."""

import struct
import zlib

import av
import numpy as np
import pytest
from clip_files import ffmpeg

from flowvid.data import decoding

GREY, COLOUR = 0, 2  # types of a PNG

CODECS = {
    "clip.mkv": ("ffv1", "bgra"),
    "clip.mov": ("qtrle", "argb"),
    "clip.webm": ("libvpx-vp9", "yuva420p"),
    "vp8.webm": ("libvpx", "yuva420p", "-auto-alt-ref", "0"),
    "clip.apng": ("apng", "rgba"),
    "prores.mov": ("prores_ks", "yuva444p10le"),
    "raw.mov": ("rawvideo", "bgra"),
    "raw.nut": ("rawvideo", "bgra"),
    "huffyuv.avi": ("huffyuv", "bgra"),
}


def write_transparent(path, codec, pixels, *options):
    """Writes red on the left, hidden red in the middle, half-transparent red on the right."""
    rgba = np.zeros((4, 48, 48, 4), np.uint8)
    rgba[..., 0], rgba[..., 3] = 200, 255
    rgba[:, :, 16:32, 3] = 0
    rgba[:, :, 32:, 3] = 128
    path.with_suffix(".raw").write_bytes(rgba.tobytes())
    ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", "rgba", "-s", "48x48", "-i", path.with_suffix(".raw")),
        *("-c:v", codec, "-pix_fmt", pixels, "-b:v", "2M", *options, path),
    )


def check_columns(path, *columns):
    read = decoding.read_clip(path, 4, 12).astype(int)
    for column, expected in zip((1, 5, 10), columns, strict=True):
        assert np.abs(read[:, :, column] - expected).max() <= 6, column


@pytest.mark.parametrize("name", CODECS)
def test_clips_are_composed_on_white_as_images_are(tmp_path, name):
    write_transparent(tmp_path / name, *CODECS[name])
    check_columns(tmp_path / name, (200, 0, 0), (255, 255, 255), (227, 127, 127))


@pytest.mark.parametrize("name", ["clip.webm", "vp8.webm"])
def test_matroska_may_spell_its_tags_in_upper_case(tmp_path, name):
    write_transparent(tmp_path / name, *CODECS[name])
    ffmpeg("-i", tmp_path / name, "-c", "copy", tmp_path / "copy.mkv")
    with av.open(str(tmp_path / "copy.mkv")) as container:
        assert "ALPHA_MODE" in container.streams.video[0].metadata
    check_columns(tmp_path / "copy.mkv", (200, 0, 0), (255, 255, 255), (227, 127, 127))


@pytest.mark.parametrize(
    ("name", "options"), [("clip.avi", ()), ("clip.mkv", ("-allow_raw_vfw", "1"))]
)
def test_the_fourth_byte_of_a_windows_bitmap_is_no_transparency(tmp_path, name, options):
    write_transparent(tmp_path / name, "rawvideo", "bgra", *options)
    check_columns(tmp_path / name, *[(200, 0, 0)] * 3)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(bits, kind, row, key):
    """A square PNG of equal rows of levels, with a transparent colour."""
    powers = np.arange(bits)[::-1]
    pixels = np.packbits((np.array(row).reshape(-1, 1) >> powers & 1).astype(np.uint8)).tobytes()
    header = struct.pack(">IIBBBBB", len(row), len(row), bits, kind, 0, 0, 0)
    rows = zlib.compress((b"\0" + pixels) * len(row))
    parts = (b"IHDR", header), (b"tRNS", struct.pack(f">{len(key)}H", *key)), (b"IDAT", rows)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in (*parts, (b"IEND", b"")))


KEYS = {  # bits, type, the levels of a row, the transparent one, the row that is expected
    "1 bit": (1, GREY, [0, 1], [0], [255, 255]),
    "1 bit, white": (1, GREY, [0, 1], [1], [0, 255]),
    "2 bits": (2, GREY, [0, 1, 2, 3], [2], [0, 85, 255, 255]),
    "4 bits": (4, GREY, [0, 1, 7, 10], [7], [0, 17, 255, 170]),
    "8 bits": (8, GREY, [0, 7, 17, 170], [7], [0, 255, 17, 170]),
    "16 bits": (16, GREY, [257, 258], [258], [1, 255]),
    "colours": (8, COLOUR, [(1, 2, 3), (1, 2, 4)], [1, 2, 4], [(1, 2, 3), (255, 255, 255)]),
    "16-bit colours": (
        *(16, COLOUR, [(1000, 2000, 3000), (1000, 2000, 3001)], [1000, 2000, 3001]),
        [(1000 // 256, 2000 // 256, 3000 // 256), (255, 255, 255)],
    ),
    "16-bit colours, absent": (
        *(16, COLOUR, [(1000, 2000, 3000)], [3, 7, 11]),
        [(1000 // 256, 2000 // 256, 3000 // 256)],
    ),
}


@pytest.mark.parametrize("case", KEYS)
def test_pixels_of_the_transparent_colour_are_white(tmp_path, case):
    *stored, expected = KEYS[case]
    (tmp_path / "image.png").write_bytes(png(*stored))
    read = decoding.read_clip(tmp_path / "image.png", 1, len(expected))[0, 0]
    np.testing.assert_array_equal(read, np.array(expected).reshape(len(expected), -1) + [0] * 3)
