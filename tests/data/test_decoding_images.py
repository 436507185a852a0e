"""Decoding images of every kind, and refusing bad ones with the reason."""

import io
import struct
import tempfile
import zlib

import numpy as np
import pytest
from PIL import Image

from flowvid.data import decoding
from flowvid.errors import ClipError

pytest_plugins = ["clip_files"]

TIFF_ORIENTATION = 0x112


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decode_image(data, image_size=16):
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        return decoding.decode_image(file, image_size)


COLOUR = (200, 50, 100)
FLAT = Image.new("RGB", (16, 24), COLOUR)


IMAGES = {
    "png": (encode(FLAT, "PNG"), COLOUR),
    "bmp": (encode(FLAT, "BMP"), COLOUR),
    "ppm": (encode(FLAT, "PPM"), COLOUR),
    "tiff": (encode(FLAT, "TIFF"), COLOUR),
    "jpeg": (encode(FLAT, "JPEG"), COLOUR),
    "webp": (encode(FLAT, "WEBP", lossless=True), COLOUR),
    "palette": (encode(FLAT.quantize(4), "PNG"), COLOUR),
    "transparency": (encode(FLAT.convert("RGBA"), "PNG"), COLOUR),
    "cmyk": (encode(FLAT.convert("CMYK"), "JPEG"), COLOUR),
    "grey": (encode(Image.new("L", (16, 24), 77), "PNG"), (77, 77, 77)),
    "transparent grey": (encode(Image.new("LA", (16, 24), (77, 9)), "PNG"), (77, 77, 77)),
    "black and white": (encode(Image.new("1", (16, 24), 1), "PNG"), (255, 255, 255)),
    "16-bit png": (encode(Image.new("I;16", (16, 24), 77 * 257), "PNG"), (77, 77, 77)),
    "16-bit tiff": (encode(Image.new("I;16", (16, 24), 77 * 257), "TIFF"), (77, 77, 77)),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_every_kind_become_rgb(kind):
    data, expected = IMAGES[kind]
    image = decode_image(data)
    assert image.shape == (1, 16, 16, 3)
    assert np.abs(image.astype(int) - expected).max() <= 2


def test_blocks_of_an_image_are_averaged(noise):
    image = decode_image(encode(Image.fromarray(noise[0]), "PNG"), 8)
    expected = noise[0, :, 8:32].reshape(8, 3, 8, 3, 3).mean(axis=(1, 3))
    assert np.abs(image[0] - expected).max() <= 1


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda image: image),
        (2, lambda image: image[:, ::-1]),
        (3, lambda image: image[::-1, ::-1]),
        (4, lambda image: image[::-1]),
        (5, lambda image: image.swapaxes(0, 1)),
        (6, lambda image: np.rot90(image, -1)),
        (7, lambda image: np.rot90(image, 2).swapaxes(0, 1)),
        (8, lambda image: np.rot90(image)),
    ],
)
def test_images_turned_by_their_metadata_stand_upright(noise, orientation, upright):
    exif = Image.Exif()
    exif[TIFF_ORIENTATION] = orientation
    data = encode(Image.fromarray(noise[0]), "PNG", exif=exif)
    np.testing.assert_array_equal(decode_image(data, 24)[0], upright(noise[0, :, 8:32]))


def png(width, height, pixels, extra=b""):
    """The bytes of a PNG file of RGB, put together by hand."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), extra, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


ROWS = zlib.compress(bytes(16 * (1 + 3 * 16)))
LONG_TEXT = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21)))


BAD_IMAGES = {
    "empty": (b"", "unknown format"),
    "text": (b"this is not an image\n" * 100, "unknown format"),
    "cut off jpeg": (encode(FLAT, "JPEG")[:-20], "(?i)truncated"),
    "cut off png": (encode(FLAT, "PNG")[:-30], "truncated"),
    "bad pixels": (png(16, 16, b"no pixels"), "broken data stream"),
    "bad text": (png(16, 16, ROWS, LONG_TEXT), "Decompressed data too large"),
    "huge": (png(8200, 4100, ROWS), "^8200x4100 pixels, but at most 33554432 are read$"),
    "immense": (png(2**30, 2**30, ROWS), "exceeds limit"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_images_are_refused_with_the_reason(kind):
    data, reason = BAD_IMAGES[kind]
    with pytest.raises(ClipError, match=reason):
        decode_image(data)


def test_the_bad_images_are_bad_for_that_reason_alone():
    assert decode_image(png(16, 16, ROWS)).shape == (1, 16, 16, 3)
