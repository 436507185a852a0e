"""Listing files below folders, in an order that depends on their names alone."""

import os

import numpy as np
import pytest
from footage import touch

from data_builders import listing
from data_builders.listing import Ignored, Item
from flowvid import paths


def items_named(names):
    return [Item(id=str(name), label="", path=str(name)) for name in names]


def names(tree):
    """The names of the listed files, with the reasons of those to be skipped."""
    return {file.name: file.reason for file in listing.without_repeats(tree.files)}


# Order.


def test_positions_never_change():
    # printf '0/zooming/a.mp4' | sha256sum begins with da1fc42f2381, with 1 with ad3974050c46.
    assert listing.position("zooming/a.mp4") == 0xDA1FC42F2381 / 2**48
    assert listing.position("zooming/a.mp4", seed=1) == 0xAD3974050C46 / 2**48


def test_positions_are_spread_evenly():
    counts, _ = np.histogram([listing.position(str(i)) for i in range(10_000)], 10, (0, 1))
    assert counts.sum() == 10_000
    assert np.abs(counts - 1000).max() < 150  # 5 standard deviations


def test_the_order_hangs_on_ids_alone():
    items = items_named(range(200))
    order = [item.id for item in listing.in_order(items)]
    assert sorted(order) == sorted(item.id for item in items) != order
    assert [item.id for item in listing.in_order(items[::-1])] == order
    more = [item.id for item in listing.in_order(items + items_named(range(200, 300)))]
    assert [name for name in more if int(name) < 200] == order


def test_repeats_are_marked_but_the_first():
    a, b = items_named("ab")
    again = a._replace(label="other")
    listed = listing.in_order([a, b, again, again])
    assert [item.reason for item in listed if item.id == "a"] == ["", *["listed before"] * 2]
    assert [item for item in listed if not item.reason and item.id == "a"] == [a]
    assert [item for item in listed if item.id == "b"] == [b]


# Names.


@pytest.mark.parametrize("name", ["plain", "ünï 🎬", "👩‍👧 a b", "a/b c/d.mp4", "e\u0301"])
def test_text_is_printable_as_it_is(name):
    assert listing.printable(name) == name


ESCAPED = {
    "line\nbreak": "line\\nbreak",
    "carriage\rreturn": "carriage\\rreturn",
    "a\tb": "a\\tb",
    "next\x85line": "next\\x85line",
    "line\u2028separator": "line\\u2028separator",
    "walk ": "walk\\x20",
    " walk": "\\x20walk",
    "a /b": "a\\x20/b",
    "wide\u3000": "wide\\u3000",
    "  ": "\\x20\\x20",
    "walk\\x20": "walk\\\\x20",
    os.fsdecode(b"caf\xe9.mp4"): "caf\\udce9.mp4",
}


@pytest.mark.parametrize("name", ESCAPED)
def test_what_would_be_lost_is_escaped(name):
    printed = listing.printable(name)
    assert printed == ESCAPED[name]
    assert printed.encode().decode().split("\n") == [printed]
    assert all(part == part.strip() for part in printed.split("/"))


def test_names_are_read_as_utf_8_in_every_locale():
    in_the_c_locale = "caf\u00e9 \U0001f3ac".encode().decode("ascii", "surrogateescape")
    assert listing.printable(in_the_c_locale) == "caf\u00e9 \U0001f3ac"


def test_different_names_stay_different():
    everything = [*ESCAPED, *ESCAPED.values(), "walk", "line", "break"]
    assert len({listing.printable(name) for name in everything}) == len(set(everything))


# Folders.


def test_visible_files_of_every_ending_are_found_and_sorted(tmp_path):
    touch(tmp_path, "b/x.mp4", "a/y.MP4", "a/c/z", "w.txt", ".h/x.mp4", "a/.hidden.mp4")
    (tmp_path / "folder.mp4").mkdir()
    tree = listing.walk(tmp_path)
    assert list(names(tree)) == ["a/c/z", "a/y.MP4", "b/x.mp4", "w.txt"]
    assert [file.suffix for file in tree.files] == ["", ".mp4", ".mp4", ".txt"]
    assert sorted(tree.folders) == ["a", "a/c", "b", "folder.mp4"]
    assert sorted(tree.ignored) == [(".h", "hidden"), ("a/.hidden.mp4", "hidden")]


LEADS_OUT = "a symbolic link that leads out of the dataset's folder"
BROKEN = "a symbolic link to nothing"
# For each case: links (name, target), the files found with their reasons, and what is ignored.
LINKS = {
    "a folder below": (
        [("walk", "../inside/.store")],
        {"run/1.mp4": "", "walk/2.mp4": ""},
        [(".store", "hidden")],
    ),
    "a file below": (
        [("walk.mp4", ".store/2.mp4")],
        {"run/1.mp4": "", "walk.mp4": ""},
        [(".store", "hidden")],
    ),
    "a folder outside": (
        [("walk", "../outside")],
        {"run/1.mp4": ""},
        [(".store", "hidden"), ("walk/", LEADS_OUT)],
    ),
    "a folder whose name begins alike": (
        [("walk", "../inside2")],
        {"run/1.mp4": ""},
        [(".store", "hidden"), ("walk/", LEADS_OUT)],
    ),
    "a file outside": (
        [("walk.mp4", "../outside/3.mp4")],
        {"run/1.mp4": "", "walk.mp4": LEADS_OUT},
        [(".store", "hidden")],
    ),
    "nothing": (
        [("walk.mp4", "run/no.mp4")],
        {"run/1.mp4": "", "walk.mp4": BROKEN},
        [(".store", "hidden")],
    ),
    "itself": ([("x.mp4", "x.mp4")], {"run/1.mp4": "", "x.mp4": BROKEN}, [(".store", "hidden")]),
    "the folder around": (
        [("run/all", "..")],
        {"run/1.mp4": ""},
        [(".store", "hidden"), ("run/all/", "a symbolic link to a folder around it")],
    ),
    "each other": (
        [("a", "b"), ("b", "a")],
        {"a": BROKEN, "b": BROKEN, "run/1.mp4": ""},
        [(".store", "hidden")],
    ),
    "a folder with another name": (
        [("also", "run")],
        {"also/1.mp4": "the same file as run/1.mp4", "run/1.mp4": ""},
        [(".store", "hidden")],
    ),
    "two names of a hidden file": (
        [("b.mp4", ".store/2.mp4"), ("a.mp4", ".store/2.mp4")],
        {"a.mp4": "", "b.mp4": "the same file as a.mp4", "run/1.mp4": ""},
        [(".store", "hidden")],
    ),
}


@pytest.mark.parametrize("case", LINKS)
def test_links_are_followed_that_stay_below(tmp_path, case):
    links, found, ignored = LINKS[case]
    root = touch(tmp_path / "inside", "run/1.mp4", ".store/2.mp4")
    touch(tmp_path, "outside/3.mp4", "inside2/4.mp4")
    for name, target in links:
        (root / name).symlink_to(target)
    for given in (root, tmp_path / "link"):  # the folder itself may be a link
        if not given.exists():
            given.symlink_to("inside")
        tree = listing.walk(given)
        assert names(tree) == found
        assert sorted(tree.ignored) == ignored


def test_hard_links_are_one_file(tmp_path):
    touch(tmp_path, "b/1.mp4", "b/2.mp4")
    for name in ("a.mp4", "c.mp4"):
        (tmp_path / name).hardlink_to(tmp_path / "b/1.mp4")
    (tmp_path / "0.mp4").symlink_to("b/1.mp4")
    assert names(listing.walk(tmp_path)) == {
        "0.mp4": "the same file as a.mp4",
        "a.mp4": "",
        "b/1.mp4": "the same file as a.mp4",
        "b/2.mp4": "",
        "c.mp4": "the same file as a.mp4",
    }


def test_a_changed_target_changes_the_version_of_a_link(tmp_path):
    touch(tmp_path, ".store/1.mp4")
    (tmp_path / "1.mp4").symlink_to(".store/1.mp4")
    (before,) = listing.walk(tmp_path).files
    (tmp_path / ".store/1.mp4").write_text("new")
    (after,) = listing.walk(tmp_path).files
    assert before.version != after.version


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    tree = listing.walk(tmp_path)
    assert names(tree) == {"a/1.mp4": ""}
    assert tree.ignored == [Ignored("b/", "not readable (Permission denied)")]


def test_what_flowvid_wrote_is_left_out_below_the_folder_alone(tmp_path):
    touch(tmp_path, "run/1.mp4", "samples/000.gif", "samples/deep/1.gif")
    (tmp_path / "samples" / paths.MARKER).touch()
    tree = listing.walk(tmp_path)
    assert names(tree) == {"run/1.mp4": ""}
    assert tree.ignored == [Ignored("samples/", "written by flowvid")]
    assert tree.folders == ["run"]
    assert names(listing.walk(tmp_path / "samples")) == {"000.gif": "", "deep/1.gif": ""}


def test_what_flowvid_wrote_beside_other_files_is_left_out(tmp_path):
    """As after `preview --dataset=. --out=.` and `sample --out=run`, where run/ holds clips."""
    touch(tmp_path, "run/1.mp4", "run/000.mp4", "samples.png", "samples.gif", "summary.json")
    paths.output_folder(tmp_path / "run", "")
    paths.note_files(tmp_path / "run", ["000.mp4", "samples.png"])
    tree = listing.walk(tmp_path)
    assert names(tree) == {"run/1.mp4": ""}
    written = ("run/000.mp4", "samples.gif", "samples.png", "summary.json")
    assert sorted(tree.ignored) == [(name, "written by flowvid") for name in written]
    (tmp_path / "run" / paths.NOTE).unlink()
    assert names(listing.walk(tmp_path)) == {"run/000.mp4": "", "run/1.mp4": ""}
