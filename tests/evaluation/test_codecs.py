"""Codecs lose nothing, and what is counted is exactly what a decoder needs."""

import io
import math
import struct
import zlib

import av
import numpy as np
import pytest
from PIL import Image

from flowvid.evaluation import codecs

SETTINGS = [
    pytest.param(codec, id=f"{name}{number}")
    for name, tried in codecs.CODECS.items()
    for number, codec in enumerate(tried)
]


def chunk(kind, data):
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_file(payload, height, width, pieces=1):
    """A PNG file of RGB that has a zlib stream in so many IDAT chunks."""
    size = math.ceil(len(payload) / pieces)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = [payload[at : at + size] for at in range(0, len(payload), size)]
    chunks = [chunk(b"IHDR", header), *(chunk(b"IDAT", d) for d in data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def decoded(payloads, codec, height, width):
    """What a decoder makes of payloads, once a container's part is put around them."""
    if codec.encoder == "png":
        files = [png_file(payload, height, width) for payload in payloads]
        return np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    if codec.payload is codecs.ffv1_payload:
        packets = [payload + len(payload).to_bytes(3, "big") for payload in payloads]
    elif codec.payload is codecs.h264_payload:
        packets = [b"\0\0\0\1" + payload for payload in payloads]
    else:
        packets = payloads
    decoder = av.CodecContext.create("h264" if "264" in codec.encoder else codec.encoder, "r")
    encoder = av.CodecContext.create(codec.encoder, "w")
    encoder.height, encoder.width, encoder.pix_fmt = height, width, codec.pixels
    encoder.time_base = 1
    encoder.options = codec.options | {"threads": "1"}
    encoder.flags |= av.codec.context.Flags.global_header
    encoder.open()
    decoder.height, decoder.width, decoder.extradata = height, width, encoder.extradata
    frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet))]
    frames += decoder.decode(None)
    return np.stack([frame.reformat(format="rgb24").to_ndarray() for frame in frames])


@pytest.fixture(scope="module")
def footage():
    """Seven frames of moving blocks with a little noise, 16 x 24."""
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(0, 200, (2, 3, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    moving = np.stack([np.roll(blocks, i, axis=1) for i in range(7)])
    return moving + rng.integers(0, 3, moving.shape, dtype=np.uint8)


@pytest.mark.parametrize("codec", SETTINGS)
def test_codecs_lose_nothing_and_their_payloads_are_all_that_is_needed(codec, footage):
    packets = codecs.encode(footage, codec)
    payloads = [codec.payload(packet) for packet in packets]
    assert len(packets) == len(footage)
    np.testing.assert_array_equal(decoded(payloads, codec, 16, 24), footage)
    first, later = codecs.bits_per_dim(footage, codec)
    assert first == pytest.approx(8 * len(payloads[0]) / footage[0].size)
    assert later == pytest.approx(8 * sum(map(len, payloads[1:])) / footage[1:].size)


@pytest.mark.parametrize("codec", SETTINGS)
def test_a_first_frame_costs_the_same_whatever_follows(codec, footage):
    alone, none = codecs.bits_per_dim(footage[:1], codec)
    assert math.isnan(none)
    assert alone == codecs.bits_per_dim(footage, codec)[0]


@pytest.mark.parametrize("codec", codecs.CODECS["png"])
def test_a_png_costs_78_bytes_less_than_its_file(codec):
    """Signature 8, IHDR 25, pHYs 21, IEND 12, and 12 around the only IDAT."""
    video = np.random.default_rng(0).integers(0, 4, (1, 32, 32, 3), np.uint8)
    (file,) = codecs.encode(video, codec)
    bits, _ = codecs.bits_per_dim(video, codec)
    assert bits == 8 * (len(file) - 78) / video.size
    pixels = zlib.decompress(codecs.png_payload(file))
    assert len(pixels) == 32 * (1 + 32 * 3)  # a byte names each row's filter


@pytest.mark.parametrize("codec", codecs.CODECS["png"])
def test_a_png_of_several_data_chunks_is_counted_without_their_frames(codec):
    """FFmpeg writes chunks of at most 4096 bytes."""
    video = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    (file,) = codecs.encode(video, codec)
    count = file.count(b"IDAT")
    assert count > 2
    payload = codecs.png_payload(file)
    assert len(payload) == len(file) - 66 - 12 * count
    np.testing.assert_array_equal(decoded([payload], codec, 64, 64), video)
    for pieces in (1, 5):
        assert codecs.png_payload(png_file(payload, 64, 64, pieces)) == payload


@pytest.mark.parametrize("name", ["png", "ffv1"])
def test_what_all_videos_share_is_not_counted(name):
    """A black frame costs next to nothing."""
    black = np.zeros((1, 16, 16, 3), np.uint8)
    bits = min(codecs.bits_per_dim(black, codec)[0] for codec in codecs.CODECS[name])
    assert bits * black.size <= 8 * 16


def test_h264_has_neither_remarks_nor_start_codes(footage):
    (codec,) = codecs.CODECS["h264_lossless"]
    packets = codecs.encode(footage, codec)
    assert b"x264" in packets[0]
    for packet in packets:
        payload = codec.payload(packet)
        assert b"x264" not in payload
        assert payload[0] & 31 in (1, 5)  # a slice
        assert packet.endswith(b"\0\0\1" + payload)


def test_codecs_that_know_the_last_frame_need_less_for_the_next():
    still = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8), 5, 0)
    first, later = codecs.bits_per_dim(still, *codecs.CODECS["h264_lossless"])
    assert later < 0.2 * first
