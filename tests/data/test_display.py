"""Clips look as the ffmpeg program shows them: turned, of square pixels, of the right stream.

The ffmpeg program applies display matrices and chooses streams itself; to make pixels square, its
filter `scale` is used.
"""

import numpy as np
import pytest
from clip_files import ffmpeg, write
from PIL import Image, ImageDraw

from flowvid.data import decoding
from flowvid.errors import ClipError

pytest_plugins = ["clip_files"]

SIZE = 24


def distance(video, other):
    """The largest mean difference of a frame, in grey levels."""
    return np.abs(video.astype(int) - other).mean(axis=(1, 2, 3)).max()


def shown_by_ffmpeg(path, filters="null", size=SIZE):
    """The centre square of the frames as the ffmpeg program shows them after some filters."""
    filters += f",crop='min(iw,ih)':'min(iw,ih)',scale={size}:{size}:flags=area+full_chroma_inp"
    raw = ffmpeg(
        *("-i", path, "-fps_mode", "passthrough", "-vf", filters),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
    )
    return np.frombuffer(raw, np.uint8).reshape(-1, size, size, 3)


def corners(width, height, num_frames=3):
    """Frames with a corner of each colour, which no turn and no mirror leaves as they are."""
    image = Image.new("RGB", (width, height), (128, 128, 128))
    draw = ImageDraw.Draw(image)
    middle = (width // 2, height // 2)
    draw.rectangle((0, 0, *middle), (220, 30, 30))
    draw.rectangle((middle[0], 0, width, middle[1]), (30, 220, 30))
    draw.rectangle((0, middle[1], middle[0], height), (30, 30, 220))
    return np.repeat(np.asarray(image)[None], num_frames, axis=0)


def disk(width, height, pixel_aspect):
    """A white disk that is round where pixels have this aspect."""
    y, x = np.mgrid[:height, :width]
    radius = np.hypot((x - (width - 1) / 2) * pixel_aspect, y - (height - 1) / 2)
    image = np.where(radius < 0.4 * min(width * pixel_aspect, height), 255, 0).astype(np.uint8)
    return np.repeat(image[None, ..., None], 3, axis=0).repeat(3, axis=-1)


TURNS = ("0", "90", "180", "270")
MIRRORS = ((), ("-display_hflip",), ("-display_vflip",))


@pytest.mark.parametrize("mirror", MIRRORS, ids=lambda flags: "".join(flags) or "upright")
@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("size", [(64, 40), (40, 64)], ids=["wide", "tall"])
def test_clips_stand_as_their_display_matrix_says(tmp_path, size, turn, mirror):
    write(tmp_path / "stored.mp4", corners(*size), "libx264", "yuv444p")
    shown = tmp_path / "shown.mp4"
    flags = ("-display_rotation", turn, *mirror)
    ffmpeg(*flags, "-i", tmp_path / "stored.mp4", "-c", "copy", shown)
    read = decoding.read_clip(shown, 3, SIZE)
    assert distance(read, shown_by_ffmpeg(shown)) < 2
    others = [read[:, ::-1], read[:, :, ::-1], np.rot90(read, 1, (1, 2)), read.swapaxes(1, 2)]
    assert min(distance(read, other) for other in others) > 20  # so the measure sees every turn


def test_a_slanted_clip_stands_in_the_nearest_quarter_turn(tmp_path):
    write(tmp_path / "stored.mp4", corners(48, 48), "libx264", "yuv444p")
    for turn in ("80", "90"):
        ffmpeg(
            *("-display_rotation", turn, "-i", tmp_path / "stored.mp4"),
            *("-c", "copy", tmp_path / f"{turn}.mp4"),
        )
    read = [decoding.read_clip(tmp_path / f"{turn}.mp4", 3, SIZE) for turn in ("80", "90")]
    np.testing.assert_array_equal(*read)


ASPECTS = {
    "wide pixels": ("clip.mp4", "2/1", 40, 64),
    "tall pixels": ("clip.mp4", "1/2", 96, 40),
    "nearly square": ("clip.mkv", "16/11", 72, 58),
    "no aspect": ("clip.mp4", "0/1", 64, 40),
    "beyond all bounds": ("clip.mp4", "1000/1", 64, 40),
}


@pytest.mark.parametrize("case", ASPECTS)
def test_circles_stay_round(tmp_path, case):
    name, aspect, width, height = ASPECTS[case]
    ratio = eval(aspect) or 1
    write(tmp_path / "stored.mkv", disk(width, height, ratio))
    ffmpeg(
        *("-i", tmp_path / "stored.mkv", "-vf", f"setsar={aspect}", "-c:v", "libx264"),
        *("-crf", "1", "-pix_fmt", "yuv444p", tmp_path / name),
    )
    read = decoding.read_clip(tmp_path / name, 3, SIZE)
    assert read.shape == (3, SIZE, SIZE, 3)
    if ratio < 10:
        white = read[0, ..., 0] > 127
        wide, tall = white.any(axis=0).sum(), white.any(axis=1).sum()
        assert abs(int(wide) - int(tall)) <= 1
        assert 0.7 * SIZE < wide < 0.9 * SIZE
        square = shown_by_ffmpeg(tmp_path / name, "scale='iw*max(sar,1)':'ih/min(sar,1)',setsar=1")
        if aspect != "0/1":
            assert distance(read, square) < 6


def test_the_aspect_of_the_container_overrides_that_of_the_stream(tmp_path):
    write(tmp_path / "stored.mkv", disk(96, 96, 1))
    ffmpeg(
        *("-i", tmp_path / "stored.mkv", "-vf", "setsar=2/1", "-c:v", "libx264", "-crf", "1"),
        *("-pix_fmt", "yuv444p", tmp_path / "stream.mp4"),
    )
    ffmpeg(
        *("-i", tmp_path / "stream.mp4", "-c", "copy", "-aspect", "1:1", tmp_path / "both.mp4"),
    )
    stored = decoding.read_clip(tmp_path / "stored.mkv", 3, SIZE)
    assert distance(decoding.read_clip(tmp_path / "both.mp4", 3, SIZE), stored) < 2
    assert distance(decoding.read_clip(tmp_path / "stream.mp4", 3, SIZE), stored) > 20


def test_a_pixel_aspect_may_change_on_the_way(tmp_path):
    """A broadcast changes from square to wide pixels; both parts show a round disk."""
    parts = []
    for index, aspect in enumerate((1, 2)):
        write(tmp_path / "stored.mkv", np.repeat(disk(128, 128, aspect)[:1], 12, axis=0))
        parts.append(tmp_path / f"{index}.ts")
        ffmpeg(
            *("-i", tmp_path / "stored.mkv", "-vf", f"setsar={aspect}/1", "-c:v", "libx264"),
            *("-crf", "1", "-bf", "0", "-pix_fmt", "yuv420p", "-tune", "zerolatency", parts[-1]),
        )
    whole = tmp_path / "whole.ts"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    read = decoding.read_clip(whole, None, SIZE)
    assert len(read) == 24
    for frame in (read[0], read[-1]):
        white = frame[..., 0] > 127
        assert abs(int(white.any(axis=0).sum()) - int(white.any(axis=1).sum())) <= 1


@pytest.fixture
def streams(tmp_path):
    """The film, another film of twice its size, a cover, and sound, in files of their own."""
    write(tmp_path / "film.mp4", corners(32, 24, 6), "libx264", "yuv444p")
    write(tmp_path / "large.mp4", np.full((6, 48, 64, 3), 240, np.uint8), "libx264", "yuv444p")
    Image.new("RGB", (400, 400), (255, 255, 0)).save(tmp_path / "cover.png")
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.24", "-c:a", "aac", tmp_path / "sound.m4a")
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    return tmp_path


INPUTS = {
    "cover first": (("cover.png", "film.mp4"), ("-disposition:v:0", "attached_pic"), 1),
    "cover last": (("film.mp4", "cover.png"), ("-disposition:v:1", "attached_pic"), 0),
    "sound first": (("sound.m4a", "film.mp4"), (), 0),
    "words first": (("words.srt", "film.mp4"), ("-c:s", "mov_text"), 0),
    "large last": (("film.mp4", "large.mp4"), ("-disposition:v:0", "0"), 1),
    "default small": (
        ("large.mp4", "film.mp4"),
        ("-disposition:v:0", "0", "-disposition:v:1", "default"),
        1,
    ),
}


@pytest.mark.parametrize("case", INPUTS)
def test_the_best_video_stream_is_read(streams, case):
    names, flags, best = INPUTS[case]
    inputs = [argument for name in names for argument in ("-i", streams / name)]
    maps = [argument for index in range(len(names)) for argument in ("-map", str(index))]
    ffmpeg(*inputs, *maps, "-c", "copy", *flags, streams / "whole.mp4")
    read = decoding.read_clip(streams / "whole.mp4", None, SIZE)
    assert len(read) == 6
    assert distance(read, shown_by_ffmpeg(streams / "whole.mp4")) < 2
    videos = [name for name in names if name.endswith((".mp4", ".png"))]
    assert distance(read, shown_by_ffmpeg(streams / videos[best])) < 2


def test_a_cover_alone_is_no_video(streams):
    ffmpeg(
        *("-i", streams / "sound.m4a", "-i", streams / "cover.png", "-map", "0", "-map", "1"),
        *("-c", "copy", "-disposition:v:0", "attached_pic", streams / "song.mp4"),
    )
    with pytest.raises(ClipError, match="no video stream, only an attached picture"):
        decoding.read_clip(streams / "song.mp4", 1, SIZE)


def test_interlaced_clips_keep_their_frames(tmp_path):
    write(tmp_path / "stored.mkv", corners(64, 48, 10))
    ffmpeg(
        *("-i", tmp_path / "stored.mkv", "-vf", "setfield=tff", "-c:v", "mpeg2video", "-q:v", "1"),
        *("-flags", "+ildct+ilme", "-f", "mpegts", tmp_path / "clip.ts"),
    )
    read = decoding.read_clip(tmp_path / "clip.ts", None, SIZE)
    assert len(read) == 10
    assert distance(read, shown_by_ffmpeg(tmp_path / "clip.ts")) < 3


def test_repeats_without_data_are_no_frames(tmp_path):
    write(tmp_path / "stored.mkv", corners(64, 48, 6))
    ffmpeg("-i", tmp_path / "stored.mkv", "-c:v", "libtheora", tmp_path / "clip.ogv")
    read = decoding.read_clip(tmp_path / "clip.ogv", None, SIZE)
    assert len(read) == len(shown_by_ffmpeg(tmp_path / "clip.ogv")) < 6
