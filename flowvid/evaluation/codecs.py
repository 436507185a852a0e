"""Lossless codecs as answers: the bits that PNG, FFV1 and H.264 need for the frames of a video."""

from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from jaxtyping import UInt8


class Codec(NamedTuple):
    """How FFmpeg is asked for a lossless codec."""

    encoder: str
    pixels: str  # RGB as the encoder takes it
    options: dict[str, str]
    without: str | None = None  # a filter that takes what is no picture out of the packets


CODECS = {
    "png": Codec("png", "rgb24", {}),  # every frame on its own
    # Version 1 has no slices, which cost small frames more than they give; "g": the range coder
    # goes on learning from frame to frame.
    "ffv1": Codec("ffv1", "bgr0", {"level": "1", "coder": "1", "context": "0", "g": "1000000"}),
    # x264 writes its settings, 700 bytes of text, before the first frame.
    "h264_lossless": Codec(
        "libx264rgb",
        "rgb24",
        {"qp": "0", "preset": "veryslow", "g": "1000000", "sc_threshold": "0"},
        "filter_units=remove_types=6",
    ),
}


def encode(video: UInt8[np.ndarray, "time height width 3"], codec: Codec) -> list[bytes]:
    """The packets of a video, in the order of decoding: the first holds the first frame.

    What a container adds, and the headers that all videos of a size share, are not in them.
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
    if codec.without is None:
        return [bytes(packet) for packet in packets]
    with av.open("/dev/null", "w", format="null") as nowhere:
        stream = nowhere.add_stream(codec.encoder, rate=25)
        bits = BitStreamFilterContext(codec.without, stream)
        return [bytes(kept) for packet in packets for kept in bits.filter(packet)]


def bits_per_dim(
    video: UInt8[np.ndarray, "time height width 3"], codec: Codec
) -> tuple[float, float]:
    """Bits a pixel and channel of the first frame, and of the frames after it (nan: none)."""
    first, *rest = (8 * len(packet) for packet in encode(video, codec))
    later = video[1:].size
    return first / video[0].size, sum(rest) / later if later else float("nan")
