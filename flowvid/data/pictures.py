"""Reads images with Pillow: upright, transparency composed on white, levels scaled to 8 bits."""

import io
from collections.abc import Iterator
from typing import IO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile, ImageOps, ImageSequence, UnidentifiedImageError

from flowvid.data.framing import compose
from flowvid.errors import ClipError

SUFFIXES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .webp .avif .bmp .tif .tiff .ppm .pgm .pbm .pnm".split()
)
MAX_PIXELS = 2**25  # per frame: 8192 x 4096, which takes 100 MB as RGB

_ANIMATIONS = ("PNG", "WEBP", "AVIF", "GIF")  # of other formats, the first page is the image
_STILLS = ("PNG", "WEBP", "AVIF", "BMP", "TIFF", "PPM")
_WEBP_HEADER = 21  # bytes up to the flags of an extended WebP
_WEBP_ANIMATION = 0x02  # its flag

Picture = UInt8[np.ndarray, "height width 3"]


def check_size(width: int, height: int) -> None:
    """Refuses pictures of more than `MAX_PIXELS`.

    Raises:
      ClipError: naming both sizes.
    """
    if width * height > MAX_PIXELS:
        raise ClipError(f"{width}x{height} pixels, but at most {MAX_PIXELS} are read")


def is_animated_webp(file: IO[bytes]) -> bool:
    """Returns whether a file begins as an animated WebP; leaves the file at its start."""
    head = file.read(_WEBP_HEADER)
    file.seek(0)
    return (
        head[:4] == b"RIFF"
        and head[8:16] == b"WEBPVP8X"
        and len(head) == _WEBP_HEADER
        and bool(head[-1] & _WEBP_ANIMATION)
    )


def is_still(file: IO[bytes]) -> bool:
    """Returns whether a file begins as a single picture; leaves the file at its start.

    GIF and JPEG are left to FFmpeg, which reads them as clips, of one frame or more.
    """
    try:
        with Image.open(file, formats=_STILLS) as image:
            return not getattr(image, "is_animated", False) or image.format not in _ANIMATIONS
    except Exception:  # Pillow raises errors of many types; decoding says what is wrong
        return False
    finally:
        file.seek(0)


def decode(file: IO[bytes] | io.BytesIO) -> Picture:
    """Returns the image in a file.

    Raises:
      ClipError: if it cannot be read, is an animation, or has too many pixels; the message is the
        reason alone.
    """
    try:
        with Image.open(file) as image:
            check_size(image.width, image.height)
            num_frames = getattr(image, "n_frames", 1)
            if image.format in _ANIMATIONS and num_frames > 1:
                raise ClipError(
                    f"an animation of {num_frames} frames, not an image (to use a PNG as a "
                    "clip, let its name end in .apng)"
                )
            return _rgb(ImageOps.exif_transpose(_with_exact_key(image, file)))
    except ClipError:
        raise
    except UnidentifiedImageError as error:
        raise ClipError("not readable as an image (unknown format)") from error
    except Exception as error:  # Pillow raises errors of many types
        raise ClipError(f"not readable as an image ({error})") from error


def animation(file: IO[bytes]) -> Iterator[Picture]:
    """Yields the frames of an animated image, each as it is shown and upright.

    Raises:
      ClipError: as `decode` does.
    """
    try:
        with Image.open(file) as image:
            check_size(image.width, image.height)
            for frame in ImageSequence.Iterator(image):
                yield _rgb(ImageOps.exif_transpose(frame))
    except ClipError:
        raise
    except Exception as error:  # Pillow raises errors of many types
        raise ClipError(f"not readable as an animation ({error})") from error


def _with_exact_key(image: ImageFile.ImageFile, file: IO[bytes] | io.BytesIO) -> Image.Image:
    """Returns an image, with the transparent colour of a PNG in the levels of its pixels.

    Pillow turns 2 or 4 bits of grey, and 16 bits of each colour, into 8, but leaves the transparent
    colour as it is stored.
    """
    key = image.info.get("transparency")
    if image.format != "PNG" or key is None:
        return image
    stored = image.tile[0].args
    if stored in ("L;2", "L;4"):
        white = 2 ** int(stored[2:]) - 1
        image.info["transparency"] = key * 255 // white
    elif stored == "RGB;16B":  # of which Pillow reads the high bytes or, named so, the low bytes
        image.load()
        file.seek(0)
        with Image.open(file) as low:
            low.tile = [low.tile[0]._replace(args="RGB;16L")]
            high_key, low_key = np.divmod(key, 256)
            is_key = ((np.asarray(image) == high_key) & (np.asarray(low) == low_key)).all(axis=-1)
        image.putalpha(Image.fromarray(np.where(is_key, 0, 255).astype(np.uint8)))
    return image


def _rgb(image: Image.Image) -> Picture:
    """Returns an image of any mode as RGB.

    Raises:
      ClipError: if its levels are not known.
    """
    transparent = image.info.get("transparency")
    if image.mode.startswith(("I", "F")):
        levels = np.asarray(image)
        grey = _eight_bits(levels)
        # A 16-bit grey PNG may name one level that is transparent.
        alpha = np.where(levels == transparent, 0, 255).astype(np.uint8)
        return compose(np.stack([grey, grey, grey, alpha], axis=-1))
    if image.has_transparency_data:
        return compose(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def _eight_bits(levels: np.ndarray) -> UInt8[np.ndarray, "height width"]:
    """Scales floats from 0 to 1, or integers from 0 to 65535, to 0 to 255.

    Raises:
      ClipError: for other values, whose black and white are not known.
    """
    low, high = levels.min(), levels.max()
    white = 1 if levels.dtype.kind == "f" else 65535
    if not (low >= 0 and high <= white):  # or NaN
        kind = "floating-point" if white == 1 else "integer"
        raise ClipError(
            f"{kind} values from {low} to {high}, but 0 to {white} is read; scale them or convert "
            "the image to 8 bits"
        )
    return np.rint(levels.astype(np.float64) * (255 / white)).astype(np.uint8)
