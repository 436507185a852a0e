"""Listing files in zip files, as those of the folders that they unpack to."""

import stat
import zipfile
from pathlib import Path

import pytest

from data_builders import zip_listing
from data_builders.video_folder import folder
from flowvid import paths
from flowvid.errors import DataError


def zip_of(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in members:
            info = zipfile.ZipInfo("x")
            info.filename = name  # as it is: ZipInfo() itself would change some names
            archive.writestr(info, b"")
    return path


ZIPS = {
    "slashes": ("run/1.mp4", "walk/2.mp4"),
    "backslashes": ("run\\1.mp4", "walk\\2.mp4"),
    "both": ("run/1.mp4", "walk\\2.mp4"),
    "that are not plain": ("./run//1.mp4", "/walk/2.mp4"),
    "with folders": ("run/", "run/1.mp4", "walk\\", "walk\\2.mp4"),
    "with what a Mac adds": ("run/1.mp4", "walk/2.mp4", "__MACOSX/run/._1.mp4", "run/.DS_Store"),
}


@pytest.mark.parametrize("case", ZIPS)
def test_a_zip_file_is_listed_as_the_folder_it_unpacks_to(tmp_path, case):
    tree = zip_listing.walk(zip_of(tmp_path / "x.zip", *ZIPS[case]))
    assert [file.name for file in tree.files] == ["run/1.mp4", "walk/2.mp4"]
    assert [file.member.filename.replace("\\", "/") for file in tree.files] in (
        ["run/1.mp4", "walk/2.mp4"],
        ["./run//1.mp4", "/walk/2.mp4"],
    )
    assert all(entry.reason == "hidden" for entry in tree.ignored)


REPEATS = {
    "slashes and backslashes": ("walk\\1.mp4", "walk/1.mp4"),
    "backslashes last": ("walk/1.mp4", "walk\\1.mp4"),
    "a longer path": ("walk/1.mp4", "./walk//1.mp4"),
}


@pytest.mark.parametrize("case", REPEATS)
def test_of_files_with_the_same_name_the_last_is_listed(tmp_path, case):
    first, last = REPEATS[case]
    path = zip_of(tmp_path / "x.zip", first, "walk/2.mp4", last)
    tree = zip_listing.walk(path)
    assert [(file.name, file.member.filename) for file in tree.files] == [
        ("walk/1.mp4", last),
        ("walk/2.mp4", "walk/2.mp4"),
    ]
    (ignored,) = tree.ignored
    assert ignored.reason == "another file in the zip file has the same name"
    listed = [item.id for items in folder.list_folder(path).splits.values() for item in items]
    assert sorted(listed) == ["walk/1.mp4", "walk/2.mp4"]


def add_link(path: Path, name: str, target: str) -> None:
    info = zipfile.ZipInfo(name)
    info.create_system = 3  # Unix
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, target)


def test_links_are_no_clips(tmp_path):
    path = zip_of(tmp_path / "x.zip", "run/1.mp4", "walk/2.mp4")
    add_link(path, "run/3.mp4", "../walk/2.mp4")
    tree = zip_listing.walk(path)
    assert [file.name for file in tree.files] == ["run/1.mp4", "walk/2.mp4"]
    assert tree.ignored == [("run/3.mp4", "a symbolic link in a zip file")]


def test_a_split_that_is_a_link_is_named(tmp_path):
    path = zip_of(tmp_path / "x.zip", "train/1.mp4", "train/2.mp4", "pool/3.mp4")
    add_link(path, "val", "pool")
    message = r"val/ in .*: val \(a symbolic link in a zip file\)\. Put clips"
    with pytest.raises(DataError, match=message):
        folder.list_folder(path)


# For each case: the files beside run/1.mp4 in the zip file, and what is ignored.
WRITTEN = {
    "samples": ((f"samples/{paths.MARKER}", "samples/deep/0.gif"), ["samples/"]),
    "samples in samples": ((f"a/{paths.MARKER}", f"a/b/{paths.MARKER}", "a/b/0.gif"), ["a/"]),
    "a folder called like a split": ((f"test/{paths.MARKER}", "test/", "test/0.gif"), ["test/"]),
    "a run of an earlier version": (("r/config.json", "r/checkpoints/1/x", "r/0.gif"), ["r/"]),
    "a preview beside clips": (("samples.png", "summary.json"), ["samples.png", "summary.json"]),
    "the whole zip file": ((paths.MARKER,), []),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_what_flowvid_wrote_is_left_out(tmp_path, case):
    members, ignored = WRITTEN[case]
    tree = zip_listing.walk(zip_of(tmp_path / "x.zip", "run/1.mp4", *members))
    assert [file.name for file in tree.files] == ["run/1.mp4"]
    assert tree.ignored == [(name, "written by flowvid") for name in ignored]
    assert not tree.folders


@pytest.mark.parametrize("is_damaged", [False, True])
def test_files_that_flowvid_noted_are_left_out(tmp_path, is_damaged):
    path = zip_of(tmp_path / "x.zip", "run/1.mp4", "run/000.mp4")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"run/{paths.NOTE}", "# written\n000.mp4\n")
    if is_damaged:
        path.write_bytes(path.read_bytes().replace(b"# written\n", b"# damaged\n"))
    tree = zip_listing.walk(path)
    found = ["run/000.mp4"] * is_damaged + ["run/1.mp4"]
    assert [file.name for file in tree.files] == found
