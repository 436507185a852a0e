"""Lossless codecs as baselines: the bits that PNG, FFV1 and H.264 need for a video's frames."""

import itertools
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from jaxtyping import UInt8

_SEI = 6  # the type of H.264's NAL units that hold remarks


class Codec(NamedTuple):
    """One setting of one of FFmpeg's lossless encoders."""

    encoder: str
    pixels: str  # the encoder's RGB format
    options: dict[str, str]
    payload: Callable[[bytes], bytes]  # the part of a packet that is counted
    largest: int | None = None  # height that the encoder accepts with these options


def png_payload(packet: bytes) -> bytes:
    """Returns the zlib stream of a PNG file: the data of its IDAT chunks.

    The signature, the other chunks, and the 12 bytes of length, type and checksum that frame each
    chunk belong to the container.
    """
    payload, at = [], 8
    while at < len(packet):
        length, kind = struct.unpack_from(">I4s", packet, at)
        if kind == b"IDAT":
            payload.append(packet[at + 8 : at + 8 + length])
        at += 12 + length
    return b"".join(payload)


def h264_payload(packet: bytes) -> bytes:
    """Returns the NAL units of an H.264 packet without start codes and remarks (SEI).

    x264 writes its settings, 700 bytes of text, as a remark before the first frame.
    """
    units = re.split(rb"\x00{2,}\x01", packet)
    return b"".join(unit for unit in units if unit and unit[0] & 31 != _SEI)


def ffv1_payload(packet: bytes) -> bytes:
    """Returns the only slice in a packet of FFV1's version 3, without its length in 3 bytes."""
    return packet[:-3]


def _whole(packet: bytes) -> bytes:
    return packet


def _ffv1(level: str, context: str) -> Codec:
    """Returns FFV1 with a small or large context model, "0" or "1".

    Version 1 has no slices, but repeats the parameters of the whole video in the first frame, about
    160 bytes. Version 3 keeps these apart, but has a slice header in each frame, and no single
    slice for frames higher than 288. With one key frame, statistics are carried between frames.
    """
    options = {"level": level, "coder": "1", "context": context, "g": "1000000"}
    if level == "1":
        return Codec("ffv1", "bgr0", options, _whole)
    return Codec("ffv1", "bgr0", options | {"slices": "1", "slicecrc": "0"}, ffv1_payload, 288)


def _png(prediction: str) -> Codec:
    """Returns PNG, which compresses each frame by itself, with a filter."""
    return Codec("png", "rgb24", {"pred": prediction, "compression_level": "9"}, png_payload)


# The settings of each baseline. `baselines` reports the one that is best on training clips.
CODECS = {
    "png": tuple(map(_png, ("none", "paeth", "mixed"))),
    "ffv1": tuple(itertools.starmap(_ffv1, itertools.product("13", "01"))),
    "h264_lossless": (
        Codec(
            "libx264rgb",
            "rgb24",
            {"qp": "0", "preset": "veryslow", "g": "1000000", "sc_threshold": "0"},
            h264_payload,
        ),
    ),
}


def encode(video: UInt8[np.ndarray, "time height width 3"], codec: Codec) -> list[bytes]:
    """Returns one packet per frame in decoding order; the first holds the first frame.

    The headers that a container stores once per video are not part of them.
    """
    context = av.CodecContext.create(codec.encoder, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.height, context.width = video.shape[1:3]
    context.pix_fmt, context.time_base = codec.pixels, Fraction(1, 25)
    context.options = codec.options | {"threads": "1", "flags": "+global_header"}
    packets = []
    for number, pixels in enumerate(video):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=codec.pixels)
        frame.pts = number
        packets += context.encode(frame)
    packets += context.encode(None)
    return [bytes(packet) for packet in packets]


def bits_per_dim(
    video: UInt8[np.ndarray, "time height width 3"], codec: Codec
) -> tuple[float, float]:
    """Returns bits per dimension of the first frame, and of the later frames (nan if none).

    Only payloads are counted: a decoder is assumed to know the settings, and where packets end.
    """
    first, *rest = (8 * len(codec.payload(packet)) for packet in encode(video, codec))
    later = video[1:].size
    return first / video[0].size, sum(rest) / later if later else float("nan")
