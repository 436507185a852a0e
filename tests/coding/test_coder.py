"""Clips that are sent and received: every pixel, the size of the file, and hostile files."""

import io
import json
import struct
import zlib

import jax
import numpy as np
import pytest
from coder_models import model_of
from tiny_models import LABELS, MIXTURE_SIZES, SIZE, tiny

from flowvid.coding import coder, container
from flowvid.coding.container import Frames, NewClip, Writer
from flowvid.coding.frames import Clip as ClipWalk
from flowvid.config.making import preset_config
from flowvid.data.sources import Clip
from flowvid.errors import ClipError, ConfigError
from flowvid.video.model import Model

LENGTHS = (coder._GROUP + 2, 1, 3)


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.fixture(scope="module")
def clips():
    """Clips of several lengths, each a walk of small steps from a random first frame."""
    rng = np.random.default_rng(0)
    found = []
    for length in LENGTHS:
        steps = rng.integers(-3, 4, (length, SIZE, SIZE, 3))
        steps[0] = rng.integers(0, 256, steps[0].shape)
        found.append(np.clip(np.cumsum(steps, axis=0), 0, 255).astype(np.uint8))
    return found


@pytest.fixture(scope="module")
def sent(model, clips):
    """What is in the file, and what `send` says of it."""
    file, count = io.BytesIO(), []
    chosen = [Clip(f"clip {i}", i + 1, iter(clip)) for i, clip in enumerate(clips)]
    totals = coder.send(model, chosen, file, lambda: count.append(1))
    assert len(count) == sum(LENGTHS)
    return file.getvalue(), totals


def test_every_pixel_comes_back_with_names_and_labels(model, clips, sent):
    found = list(coder.receive(model, io.BytesIO(sent[0])))
    for number, clip in enumerate(clips):
        assert found.pop(0) == NewClip(f"clip {number}", number + 1)  # the last one is not told
        np.testing.assert_array_equal(np.stack([found.pop(0) for _ in clip]), clip)
    assert not found


def test_the_file_has_the_size_that_the_model_says(model, clips, sent):
    data, totals = sent
    assert totals[:2] == (len(clips), sum(LENGTHS))
    log_probs = [
        model.log_prob(clip[None], labels=[min(i + 1, LABELS - 1)]).sum()
        for i, clip in enumerate(clips[:2])
    ]
    bits = [
        8 * clip.size - log_prob / np.log(2)
        for clip, log_prob in zip(clips, log_probs, strict=False)
    ]
    chosen = [Clip("", i + 1, iter(clips[i])) for i in range(2)]
    two = coder.send(model, chosen, io.BytesIO(), lambda: None)
    # The memory compares pixels with a threshold, at which other rounding has another result.
    assert two.ideal_bits == pytest.approx(sum(bits), rel=5e-3)
    # A word and checksums for each group of frames, and the header.
    assert totals.ideal_bits < 8 * len(data) < 1.01 * totals.ideal_bits + 8 * 1500


def test_the_masses_are_those_of_the_density(model):
    # Its own samples have no pixels of masses below 1e-7, which the coder's tables leave out.
    label = model.label_names[1]
    clip = model.sample(1, label, num_frames=3, temperature=1.0, guidance=1.0).videos[0]
    walk, found = ClipWalk(model.config, model.params, 1), []
    for frame in clip:
        bits = []

        def code(masses, bins, bits=bits):
            own = np.take_along_axis(masses, bins[:, None], axis=1)
            bits.append(-np.log2(np.maximum(own, 1e-30)).sum())
            return bins

        walk.next(frame, code)
        found.append(sum(bits) / frame.size)
    expected = model.score(clip[None], labels=[1]).bits[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_frames_come_before_the_rest_of_the_file_is_read(model, sent):
    file = io.BytesIO(sent[0])
    parts = coder.receive(model, file)
    next(parts)
    next(parts)
    assert file.tell() < len(sent[0]) * (coder._GROUP + 1) / sum(LENGTHS)


def remade(data, change):
    """The file with changed records and right checksums; `change` maps (kind, content) to a list.

    A kind of None stands for bytes that are put there as they are.
    """
    file, records = io.BytesIO(data), []
    file.read(len(container.MAGIC))
    while start := file.read(5):
        kind, length = struct.unpack("<cI", start)
        records += change(kind, file.read(length))
        file.read(4)
    out = container.MAGIC
    for kind, content in records:
        start = struct.pack("<cI", kind, len(content))
        out += start + content + struct.pack("<I", zlib.crc32(start + content))
    return out


def with_header(**changes):
    def change(kind, content):
        if kind != b"H":
            return [(kind, content)]
        return [(kind, json.dumps(json.loads(content) | changes).encode())]

    return lambda data: remade(data, change)


def with_part(kind, content):
    """Another content of the parts of a kind."""
    return lambda data: remade(data, lambda k, c: [(k, content(c) if k == kind else c)])


def flipped(at):
    def flip(data):
        index = at if at >= 0 else len(data) + at
        return data[:index] + bytes([data[index] ^ 64]) + data[index + 1 :]

    return flip


HOSTILE = {
    "empty": (lambda data: b"", "is not a file that flowvid.compress wrote"),
    "another kind of file": (lambda data: b"\x1aE\xdf\xa3" * 9, "is not a file that flowvid"),
    "a Flash video": (lambda data: b"FLV\x01" + data, "is not a file that flowvid.compress wrote"),
    "another version": (lambda data: data[:7] + b"\x09" + data[8:], "has version 9 of the format"),
    "no header": (
        lambda data: remade(data, lambda k, c: [] if k == b"H" else [(k, c)]),
        "does not begin with a header",
    ),
    "no end": (lambda data: remade(data, lambda k, c: [] if k == b"E" else [(k, c)]), "is cut off"),
    "more after the end": (lambda data: data + b"\0", "there is something after its end"),
    "twice": (lambda data: data + data, "there is something after its end"),
    "header of a list": (with_part(b"H", lambda c: b"[]"), "is not a JSON object"),
    "header of no JSON": (with_part(b"H", lambda c: b"{" * 99), "is not JSON"),
    "header of deep JSON": (with_part(b"H", lambda c: b"[" * 60_000), "is not JSON"),
    "empty header": (with_part(b"H", lambda c: b"{}"), "its header lacks something"),
    "another model": (with_header(run="0" * 64), "was compressed with another model"),
    "another machine": (with_header(machine="abacus"), "on another machine, whose .*'abacus'"),
    "huge frames": (with_header(height=10**9), "its header does not fit the model"),
    "size of another type": (with_header(width="8"), "its header does not fit the model"),
    "longer than any part": (
        lambda data: data[:8] + b"H" + b"\xff" * 4 + data[13:],
        "a part of 4294967295 bytes is longer than any can be",
    ),
    "frames longer than any": (
        lambda data: data[: data.index(b"F")] + b"F" + b"\xff\xff\xff\x7f" + b"\0" * 99,
        "is longer than any can be|a checksum is wrong",
    ),
    "no name": (with_part(b"C", lambda c: b'{"label": 0}'), "has no name or no label"),
    "label of text": (with_part(b"C", lambda c: b'{"name": "", "label": "0"}'), "no label"),
    "label too large": (with_part(b"C", lambda c: b'{"name": "", "label": 99}'), "no label 99"),
    "frames of no clip": (
        lambda data: remade(data, lambda k, c: [] if k == b"C" else [(k, c)]),
        "it has frames before any clip",
    ),
    "no frames in a part": (with_part(b"F", lambda c: c[:4] + b"\0\0" + c[6:]), "0 frames in a"),
    "many frames in a part": (with_part(b"F", lambda c: c[:4] + b"\xff\xff" + c[6:]), "65535 fr"),
    "part of a word": (with_part(b"F", lambda c: c[:-1]), "a part that is none of the format's"),
    "unknown part": (
        lambda data: remade(data, lambda k, c: [(b"X" if k == b"F" else k, c)]),
        "a part that is none of the format's",
    ),
    "other pixels' checksum": (with_part(b"F", lambda c: b"abcd" + c[4:]), "are not those that"),
    "other words": (
        with_part(b"F", lambda c: c[:6] + bytes(reversed(c[6:]))),
        "are not those that were compressed",
    ),
    "no words": (with_part(b"F", lambda c: c[:6]), "are not those that were compressed"),
    "cut in the header": (lambda data: data[:40], "is cut off"),
    "cut in the frames": (lambda data: data[: len(data) // 2], "is cut off"),
    "cut before the end": (lambda data: data[:-1], "is cut off"),
    "a changed length": (flipped(9), "is cut off|a checksum is wrong|longer than any"),
    "a changed byte of the header": (flipped(60), "a checksum is wrong"),
    "a changed byte in the middle": (flipped(1500), "a checksum is wrong|is cut off"),
    "a changed byte at the end": (flipped(-2), "a checksum is wrong"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_not_right_ends_in_one_line(name, model, sent):
    change, message = HOSTILE[name]
    with pytest.raises(ClipError, match=message) as error:
        for _ in coder.receive(model, io.BytesIO(change(sent[0]))):
            pass
    assert "\n" not in str(error.value)


def test_another_models_weights_have_another_digest(model):
    changed = jax.tree.map(lambda leaf: leaf, model.params)
    changed["tail"]["flow"]["level_0_phase_3"] = jax.tree.map(
        lambda leaf: leaf + 1e-6, changed["tail"]["flow"]["level_0_phase_3"]
    )
    other = Model(model.config, model.label_names, changed, 0, averaged=False)
    assert coder.header_of(model)["run"] == coder.header_of(model_of())["run"]
    assert coder.header_of(other)["run"] != coder.header_of(model)["run"]


def test_runs_without_bins_of_grey_values_are_refused(model):
    glow = tiny("state")
    with pytest.raises(ConfigError, match="--flow=glow has no probabilities of grey values"):
        coder.header_of(Model(glow, (), {}, 0, averaged=False))
    with pytest.raises(ConfigError, match="models 5 bits of each grey value and would lose"):
        coder.header_of(Model(preset_config("small", **MIXTURE_SIZES), (), {}, 0, averaged=False))


def test_the_writer_refuses_nothing_and_the_reader_finds_it_again():
    file = io.BytesIO()
    writer = Writer(file, {"run": "x"})
    parts = [NewClip("é/..", 7), Frames(1, 2, b"word"), Frames(3, 4, b"")]
    writer.clip(parts[0])
    writer.frames(parts[1])
    writer.frames(parts[2])
    writer.end()
    file.seek(0)
    assert list(container.read(file)) == [{"run": "x"}, *parts]
