"""Decoding images of every kind, and refusing bad ones with the reason."""

import io
import struct
import tempfile
import zlib

import clip_files
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
    "avif": (encode(FLAT, "AVIF", quality=100), COLOUR),
    "palette": (encode(FLAT.quantize(4), "PNG"), COLOUR),
    "transparency": (encode(FLAT.convert("RGBA"), "PNG"), COLOUR),
    "cmyk": (encode(FLAT.convert("CMYK"), "JPEG"), COLOUR),
    "grey": (encode(Image.new("L", (16, 24), 77), "PNG"), (77, 77, 77)),
    "black and white": (encode(Image.new("1", (16, 24), 1), "PNG"), (255, 255, 255)),
    "16-bit png": (encode(Image.new("I;16", (16, 24), 77 * 257), "PNG"), (77, 77, 77)),
    "16-bit tiff": (encode(Image.new("I;16", (16, 24), 77 * 257), "TIFF"), (77, 77, 77)),
}


def transparent(alpha, mode="RGBA"):
    """An image of which every pixel has the colour (200, 50, 100), or 77, and this opacity."""
    colour = (77, alpha) if mode in ("LA", "PA") else (*COLOUR, alpha)
    return Image.new(mode, (16, 24), colour)


def with_palette(kind):
    """An image with a palette, whose first colour is transparent, for the left half."""
    indices = np.zeros((24, 16), np.uint8)
    indices[:, 8:] = 1
    image = Image.fromarray(indices, "P")
    image.putpalette([*COLOUR, 10, 20, 30])
    return encode(image, kind, transparency=0)


def composed(colour, alpha):
    """The colour before white."""
    return tuple(round(level * alpha / 255 + 255 * (1 - alpha / 255)) for level in colour)


GREY_KEY = Image.new("L", (16, 24), 77)
TRANSPARENT = {
    "png, hidden colour": (encode(transparent(0), "PNG"), (255, 255, 255)),
    "png, half": (encode(transparent(128), "PNG"), composed(COLOUR, 128)),
    "png, opaque": (encode(transparent(255), "PNG"), COLOUR),
    "webp, hidden colour": (
        encode(transparent(0), "WEBP", lossless=True, exact=True),
        (255, 255, 255),
    ),
    "webp, half": (encode(transparent(128), "WEBP", lossless=True), composed(COLOUR, 128)),
    "tiff, half": (encode(transparent(128), "TIFF"), composed(COLOUR, 128)),
    "grey, half": (encode(transparent(128, "LA"), "PNG"), composed((77, 77, 77), 128)),
    "grey with a key": (encode(GREY_KEY, "PNG", transparency=77), (255, 255, 255)),
    "grey with another key": (encode(GREY_KEY, "PNG", transparency=78), (77, 77, 77)),
    "colour with a key": (encode(FLAT, "PNG", transparency=COLOUR), (255, 255, 255)),
    "16-bit grey with a key": (
        encode(Image.new("I;16", (16, 24), 5000), "PNG", transparency=5000),
        (255, 255, 255),
    ),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparent_pixels_are_composed_on_white(kind):
    data, expected = TRANSPARENT[kind]
    assert np.abs(decode_image(data).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_is_white(kind):
    """As an image, and, for a GIF, as a clip."""
    data = with_palette(kind)
    images = [decode_image(data)] + ([clip_files.decode(data, 1, 16)] if kind == "GIF" else [])
    for image in images:
        np.testing.assert_array_equal(image[0, :, :8], np.full((16, 8, 3), 255))
        np.testing.assert_array_equal(image[0, :, 8:], np.full((16, 8, 3), (10, 20, 30)))


def grey_levels(values, kind="TIFF"):
    return encode(Image.fromarray(np.resize(np.array(values), (24, 16))), kind)


LEVELS = {
    "floats up to 1": (np.float32([0.5]), 128),
    "floats of 0 and 1": (np.float32([1.0]), 255),
    "32-bit integers": (np.int32([77 * 257]), 77),
}


@pytest.mark.parametrize("kind", LEVELS)
def test_levels_are_scaled_to_8_bits(kind):
    values, expected = LEVELS[kind]
    np.testing.assert_array_equal(decode_image(grey_levels(values)), expected)


UNKNOWN = {
    "floats up to 255": (np.float32([0, 255]), "floating-point values from 0.0 to 255.0"),
    "negative floats": (np.float32([-0.5, 0.5]), "floating-point values from -0.5 to 0.5"),
    "not a number": (np.float32([np.nan, 1]), "floating-point values from nan to nan"),
    "negative integers": (np.int32([-1, 7]), "integer values from -1 to 7, but 0 to 65535 is read"),
    "large integers": (np.int32([0, 65536]), "integer values from 0 to 65536"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_levels_whose_white_is_not_known_are_refused(kind):
    values, reason = UNKNOWN[kind]
    with pytest.raises(ClipError, match=reason):
        decode_image(grey_levels(values))


FRAMES = [Image.new("RGBA", (24, 24), (level, 0, 0, 255)) for level in (40, 120, 200)]
ANIMATIONS = {
    "webp": encode(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:], lossless=True),
    "apng": encode(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]),
    "gif": encode(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
}


@pytest.mark.parametrize("ending", ANIMATIONS)
def test_animations_are_clips(tmp_path, ending):
    (tmp_path / f"clip.{ending}").write_bytes(ANIMATIONS[ending])
    read = decoding.read_clip(tmp_path / f"clip.{ending}", None, 12)
    np.testing.assert_array_equal(read[:, 0, 0], [(40, 0, 0), (120, 0, 0), (200, 0, 0)])
    np.testing.assert_array_equal(clip_files.decode(ANIMATIONS[ending], 1, 12, start=2), read[2:])


AVIF = encode(FRAMES[0], "AVIF", save_all=True, append_images=FRAMES[1:])


@pytest.mark.parametrize("data", [*ANIMATIONS.values(), AVIF], ids=[*ANIMATIONS, "avif"])
def test_animations_are_no_images(data):
    with pytest.raises(ClipError, match="an animation of 3 frames, not an image"):
        decode_image(data)


def test_a_damaged_animation_is_refused():
    with pytest.raises(ClipError, match="not readable as an animation"):
        clip_files.decode(ANIMATIONS["webp"][:60], 1, 12)


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
