"""Decoding one listed file, or the reason why it cannot be used."""

import functools
import os
import zipfile

import numpy as np
import pytest

from data_builders import files
from data_builders.files import Window
from data_builders.listing import Item
from flowvid.data import decoding, media

WINDOW = Window(num_frames=3, image_size=16)


@pytest.fixture
def root(tmp_path):
    """A folder with a clip in it, and one beside it."""
    ramp = np.arange(20, 220, 20, dtype=np.uint8)[:, None, None, None]
    video = np.broadcast_to(ramp, (10, 16, 16, 3))
    media.write_video(tmp_path / "root" / "clip.mp4", video, scale=1)
    media.write_video(tmp_path / "outside.mp4", video, scale=1)
    return tmp_path / "root"


def decode_path(root, path, window=WINDOW, **fields):
    return files.decode_item(window, str(root), Item("x", "", str(path), **fields))


def test_an_item_is_decoded_through_its_window(root):
    whole = decoding.read_clip(root / "clip.mp4", None, 16)
    np.testing.assert_array_equal(decode_path(root, root / "clip.mp4"), whole[:3])
    window = Window(num_frames=2, image_size=16, start=3, stride=4)
    np.testing.assert_array_equal(decode_path(root, root / "clip.mp4", window), whole[[3, 7]])


def test_a_reason_in_the_list_is_the_reason(root):
    assert decode_path(root, root / "clip.mp4", reason="listed before") == "listed before"


def test_links_may_not_lead_out_of_the_folder(root):
    (root / "inside.mp4").symlink_to("clip.mp4")
    (root / "outside.mp4").symlink_to("../outside.mp4")
    (root / "around.mp4").symlink_to("../root/clip.mp4")
    assert decode_path(root, root / "inside.mp4").shape == (3, 16, 16, 3)
    assert decode_path(root, root / "around.mp4").shape == (3, 16, 16, 3)
    refusal = "a symbolic link that leads out of the dataset's folder"
    assert decode_path(root, root / "outside.mp4") == refusal
    (root.parent / "root2").mkdir()  # another folder whose name begins alike
    (root / "alike.mp4").symlink_to("../root2/clip.mp4")
    (root.parent / "outside.mp4").rename(root.parent / "root2" / "clip.mp4")
    assert decode_path(root, root / "alike.mp4") == refusal
    (root.parent / "link").symlink_to("root")  # the folder itself may be a link
    assert decode_path(root.parent / "link", root.parent / "link/clip.mp4").shape[0] == 3


def test_what_is_no_file_is_refused_without_opening_it(root):
    (root / "folder.mp4").mkdir()
    os.mkfifo(root / "pipe.mp4")  # opened, it would wait for a writer
    (root / "loop.mp4").symlink_to("loop.mp4")
    (root / "empty.mp4").touch()
    assert decode_path(root, root / "folder.mp4") == "not a file"
    assert decode_path(root, root / "pipe.mp4") == "not a file"
    assert decode_path(root, root / "loop.mp4") == "not a file"
    assert decode_path(root, root / "empty.mp4") == "an empty file"
    assert decode_path(root, root / "missing.mp4") == "no such file"
    assert decode_path(root, root / ("x" * 300)) == "no such file"
    assert decode_path(root, f"{root}/zero\0byte.mp4") == "no such file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_not_readable(root):
    (root / "clip.mp4").chmod(0)
    assert decode_path(root, root / "clip.mp4") == "not readable (Permission denied)"


def test_whatever_a_decoder_raises_becomes_one_line(root, monkeypatch):
    def fail(*args):
        raise RuntimeError(f"two\nlines, {len(args)} arguments\udcff")

    monkeypatch.setattr(decoding, "decode_clip", fail)
    expected = "RuntimeError: two lines, 5 arguments\\udcff"
    assert decode_path(root, root / "clip.mp4") == expected


def test_images_and_members_of_zip_files_are_decoded(root):
    clip = decode_path(root, root / "clip.mp4")
    media.write_image(root / "a.PNG", clip[1])
    with zipfile.ZipFile(root / "all.zip", "w") as archive:
        archive.write(root / "clip.mp4", "in/clip.mp4")
        archive.write(root / "a.PNG", "in/a.png")
    one = Window(num_frames=1, image_size=16)
    np.testing.assert_array_equal(decode_path(root, root / "a.PNG", one), clip[1:2])
    assert decode_path(root, root / "a.PNG") == "1 frame, but 3 are needed"
    (video, image) = members(root / "all.zip")
    zipped = functools.partial(decode_path, root, root / "all.zip")
    np.testing.assert_array_equal(zipped(member=video), clip)
    np.testing.assert_array_equal(zipped(window=one, member=image), clip[1:2])


def members(path):
    with zipfile.ZipFile(path) as archive:
        return archive.infolist()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_in_a_zip_file_is_the_reason(root, method):
    path = root / "all.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("other.txt", "some text")
        archive.write(root / "clip.mp4", "clip.mp4")
    (_, member) = members(path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace((root / "clip.mp4").read_bytes()[-99:], bytes(99)))
    if method == zipfile.ZIP_STORED:
        assert (
            decode_path(root, path, member=member) == "BadZipFile: Bad CRC-32 for file 'clip.mp4'"
        )
    path.write_bytes(whole)
    assert decode_path(root, path, member=member).shape == (3, 16, 16, 3)
    path.write_bytes(b"in front of it" + whole)
    assert decode_path(root, path, member=member) == "not where its zip file says"
    path.write_bytes(whole[: member.header_offset + 9])
    assert decode_path(root, path, member=member) == "not where its zip file says"
    member.flag_bits |= 1
    assert decode_path(root, path, member=member) == "encrypted in its zip file"
