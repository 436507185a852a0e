"""Decoding clips and images: as the ffmpeg program does it, and within bounds for any file."""

import io
import struct
import subprocess
import tempfile
import time
import wave
import zlib

import av
import imageio_ffmpeg
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from PIL import Image

from data_builders.moving_shapes import render
from flowvid.data import decoding, media
from flowvid.errors import ClipError

SIZE = 64
TIFF_ORIENTATION = 0x112


def write(path, video, codec="ffv1", pixels="bgr0", colours=None, **options):
    """Writes uint8[T, H, W, 3] or grey [T, H, W]; FFV1 keeps every value."""
    given = "rgb24" if video.ndim == 4 else "gray"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = pixels
        if colours is not None:
            stream.codec_context.colorspace = colours
        for frame in video:
            picture = av.VideoFrame.from_ndarray(frame, format=given)
            picture = picture.reformat(format=pixels, dst_colorspace=colours)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def ffmpeg(*args):
    """Runs the ffmpeg program; its standard output."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, args)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def read_by_ffmpeg(path, num_frames):
    """The frames as the ffmpeg program crops and scales them."""
    filters = f"crop='min(iw,ih)':'min(iw,ih)',scale={SIZE}:{SIZE}:flags=area"
    raw = ffmpeg(
        *("-i", path, "-frames:v", num_frames, "-fps_mode", "passthrough", "-vf", filters),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
    )
    return np.frombuffer(raw, np.uint8).reshape(num_frames, SIZE, SIZE, 3)


def distance(video, other):
    """Mean absolute difference in grey levels."""
    return np.abs(video.astype(int) - other).mean()


def decode(data, num_frames=30, image_size=16, **window):
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        return decoding.decode_clip(file, num_frames, image_size, **window)


@pytest.fixture(scope="module")
def footage():
    """35 frames of 256 x 256 with texture, moving objects and sensor noise."""
    return render.render_clip(0, "train", 0, num_frames=35, image_size=256)[0]


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (12, 24, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def ramp():
    """100 flat frames, each 2 grey levels brighter than the one before."""
    levels = np.arange(20, 220, 2, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(levels, (100, 32, 48, 3))


@pytest.fixture(scope="module")
def ramp_mp4(ramp, tmp_path_factory):
    """The ramp with its index first and every frame stored in the order it is shown."""
    path = tmp_path_factory.mktemp("ramp") / "clip.mp4"
    write(path, ramp, "libx264", "yuv420p", bf="0")
    ffmpeg("-i", path, "-c", "copy", "-movflags", "+faststart", path.with_name("fast.mp4"))
    return path.with_name("fast.mp4")


# The right pixels.


def test_blocks_of_the_centre_square_are_averaged(tmp_path, noise):
    write(tmp_path / "clip.mkv", noise)
    read = decoding.read_clip(tmp_path / "clip.mkv", 5, 8)
    square = noise[:5, :, 8:32].astype(float)
    expected = square.reshape(5, 8, 3, 8, 3, 3).mean(axis=(2, 4))
    assert np.abs(read - expected).max() <= 1


def test_pixels_keep_their_own_size(tmp_path, noise):
    write(tmp_path / "clip.mkv", noise)
    read = decoding.read_clip(tmp_path / "clip.mkv", None, 24)
    np.testing.assert_array_equal(read, noise[:, :, 8:32])


def test_a_portrait_clip_loses_top_and_bottom(tmp_path, noise):
    portrait = noise.swapaxes(1, 2)
    write(tmp_path / "clip.mkv", portrait)
    read = decoding.read_clip(tmp_path / "clip.mkv", None, 24)
    np.testing.assert_array_equal(read, portrait[:, 8:32])


def test_grey_becomes_three_equal_channels(tmp_path, noise):
    write(tmp_path / "clip.mkv", noise[..., 0], pixels="gray")
    read = decoding.read_clip(tmp_path / "clip.mkv", 12, 24)
    np.testing.assert_array_equal(read, np.repeat(noise[:, :, 8:32, :1], 3, axis=-1))


@pytest.mark.parametrize(
    ("start", "stride", "num_frames"), [(0, 1, 12), (3, 1, 9), (0, 4, 3), (2, 3, 4), (11, 5, 1)]
)
def test_start_and_stride_choose_frames(tmp_path, noise, start, stride, num_frames):
    write(tmp_path / "clip.mkv", noise)
    data = (tmp_path / "clip.mkv").read_bytes()
    expected = noise[start::stride, :, 8:32][:num_frames]
    read = decode(data, num_frames, 24, start=start, stride=stride)
    np.testing.assert_array_equal(read, expected)
    everything = decode(data, None, 24, start=start, stride=stride)
    np.testing.assert_array_equal(everything, noise[start::stride, :, 8:32])
    too_many = start + stride * num_frames + 1
    with pytest.raises(ClipError, match=f"12 frames, but {too_many} are needed"):
        decode(data, num_frames + 1, 24, start=start, stride=stride)


def test_a_start_behind_the_end_is_refused(tmp_path, noise):
    write(tmp_path / "clip.mkv", noise)
    with pytest.raises(ClipError, match="12 frames, but 13 are needed"):
        decode((tmp_path / "clip.mkv").read_bytes(), None, start=12)


CUTS = {
    "square": (slice(None), slice(None)),
    "wide": (slice(50, 146), slice(170)),
    "tall": (slice(None), slice(60, 156)),
    "odd": (slice(171), slice(97)),
}


@pytest.mark.parametrize(
    ("cut", "name", "codec", "pixels"),
    [
        ("square", "clip.mp4", "libx264", "yuv420p"),
        ("wide", "clip.mp4", "libx264", "yuv420p"),
        ("tall", "clip.mp4", "libx264", "yuv420p"),
        ("odd", "clip.mp4", "libx264", "yuv444p"),
        ("odd", "clip.mkv", "ffv1", "yuv420p"),
        ("wide", "clip.mov", "libx264", "yuv422p10le"),
        ("wide", "clip.mov", "mjpeg", "yuvj420p"),
        ("wide", "clip.mkv", "libx264", "yuv420p"),
        ("wide", "clip.webm", "libvpx", "yuv420p"),
        ("wide", "clip.avi", "mpeg4", "yuv420p"),
        ("wide", "clip.mpg", "mpeg2video", "yuv420p"),
        ("wide", "clip.gif", "gif", "rgb8"),
    ],
)
def test_pixels_are_those_of_the_ffmpeg_program(tmp_path, footage, cut, name, codec, pixels):
    write(tmp_path / name, footage[:, *CUTS[cut]], codec, pixels)
    read = decoding.read_clip(tmp_path / name, 30, SIZE)
    assert read.shape == (30, SIZE, SIZE, 3)
    assert distance(read, read_by_ffmpeg(tmp_path / name, 30)) < 2
    assert distance(read, read[:, :, ::-1]) > 5  # so the measure sees other pixels


@pytest.mark.parametrize("angle", [90, 180, 270])
@pytest.mark.parametrize("cut", ["wide", "tall"])
def test_clips_turned_by_their_metadata_stand_upright(tmp_path, footage, cut, angle):
    write(tmp_path / "clip.mp4", footage[:, *CUTS[cut]], "libx264", "yuv420p")
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", angle, "-i", tmp_path / "clip.mp4", "-c", "copy", turned)
    read = decoding.read_clip(turned, 30, SIZE)
    assert distance(read, read_by_ffmpeg(turned, 30)) < 2
    assert distance(read, decoding.read_clip(tmp_path / "clip.mp4", 30, SIZE)) > 5


@pytest.mark.parametrize("colours", [Colorspace.ITU601, Colorspace.ITU709])
def test_colours_are_those_that_were_stored(tmp_path, colours):
    video = np.zeros((2, 32, 96, 3), np.uint8)
    video[:, :, 32:64] = (200, 40, 90)  # the centre square
    write(tmp_path / "clip.mp4", video, "libx264", "yuv420p", colours, crf="1")
    read = decoding.read_clip(tmp_path / "clip.mp4", 2, 32)
    assert np.abs(read[:, 8:24, 8:24].astype(int) - (200, 40, 90)).max() <= 4


def test_frames_are_counted_as_they_are_stored(tmp_path, ramp, ramp_mp4):
    uneven = tmp_path / "uneven.mp4"
    times = "setpts='if(lt(N,10),N,10+(N-10)*7)/25/TB'"
    ffmpeg("-i", ramp_mp4, "-vf", times, "-fps_mode", "vfr", uneven)
    read = decoding.read_clip(uneven, None, 16)
    assert len(read) == 100
    assert np.abs(read.astype(int) - ramp[:, :16, :16]).max() <= 3


# Within bounds.


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
    monkeypatch.setattr(decoding, "MAX_PIXELS", 32 * 48)
    decoding.read_clip(ramp_mp4, 30, 16)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 32 * 48 - 1)
    with pytest.raises(ClipError, match="48x32 pixels, but at most 1535 are read"):
        decoding.read_clip(ramp_mp4, 30, 16)


def test_frames_that_grow_are_refused(tmp_path, ramp, monkeypatch):
    write(tmp_path / "small.mpg", ramp[:30, :16, :16], "mpeg2video", "yuv420p")
    write(tmp_path / "large.mpg", ramp[:30], "mpeg2video", "yuv420p")
    both = (tmp_path / "small.mpg").read_bytes() + (tmp_path / "large.mpg").read_bytes()
    read = decode(both, 50)
    assert read.shape == (50, 16, 16, 3)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 16 * 16)
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


# Images.


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
    "empty": (b"", "of no known kind"),
    "text": (b"this is not an image\n" * 100, "of no known kind"),
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
