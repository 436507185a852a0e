"""Listing files, and decoding them in processes that may crash, hang or lose their parent."""

import functools
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from data_builders import files
from data_builders.files import Item, Window
from flowvid.data import decoding, media

TESTS = Path(__file__).parent


def items_named(names):
    return [Item(id=str(name), label="", path=str(name)) for name in names]


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until(condition, seconds=60):
    """Whether a condition becomes true within some time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


# Decoders, which other processes import from here.


def act(item):
    """Does what the item's path says; gives frames full of its length where that is nothing."""
    match item.path:
        case "exit":
            os._exit(3)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(600)
        case "bad":
            return "a reason"
    return np.full((2, 8, 8, 3), len(item.path), np.uint8)


def slower_first(item):
    """The earlier an item, the longer it takes."""
    time.sleep(0.2 / (1 + int(item.id)))
    return item.id


def note(folder, item):
    """Leaves a file that names the item and the process."""
    Path(folder, f"{item.id} {os.getpid()}").touch()
    return item.id


def note_and_hang(folder, item):
    note(folder, item)
    time.sleep(600)
    return item.id


def module_names(item):
    del item
    return " ".join(sorted(sys.modules))


# Decoding in parallel.


def test_results_come_in_the_order_of_the_items():
    items = items_named(range(30))
    results = list(files.decode_in_parallel(slower_first, items, 3))
    assert results == [(item, item.id) for item in items]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_crash_takes_one_item_with_it(processes):
    actions = ["fine", "exit", "crash", "bad", "longer", "exit", "fine"]
    outcomes = files.decode_in_parallel(act, items_named(actions), processes)
    results = [result if isinstance(result, str) else result.max() for _, result in outcomes]
    crashed = "the decoder crashed"
    assert results == [4, crashed, crashed, "a reason", 6, crashed, 4]


def test_a_decoder_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(files, "_HARD_SECONDS", 1)
    outcomes = files.decode_in_parallel(act, items_named(["hang", "fine", "hang", "bad"]), 2)
    results = [result for _, result in outcomes]
    assert results[0] == results[2] == "the decoder hung for 1 seconds"
    assert results[3] == "a reason"
    np.testing.assert_array_equal(results[1], np.full((2, 8, 8, 3), 4))


def test_nothing_to_decode():
    assert list(files.decode_in_parallel(act, [], 2)) == []


def test_few_frames_are_held_and_all_processes_end(tmp_path):
    decode = functools.partial(note, str(tmp_path))
    outcomes = files.decode_in_parallel(decode, items_named(range(40)), 2)
    assert next(outcomes)[1] == "0"
    assert wait_until(lambda: len(list(tmp_path.iterdir())) == 8)
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == 8  # 4 for each process, of which 1 was taken
    pids = {path.name.split()[1] for path in tmp_path.iterdir()}
    assert all(is_running(pid) for pid in pids)
    outcomes.close()
    assert not any(is_running(pid) for pid in pids)


def test_who_stops_asking_does_not_wait_for_a_slow_decoder():
    outcomes = files.decode_in_parallel(act, items_named(["fine", *["hang"] * 5]), 2)
    next(outcomes)
    start = time.monotonic()
    outcomes.close()
    assert time.monotonic() - start < files._HARD_SECONDS / 4


def test_a_decoder_that_was_killed_before_it_had_started_never_decodes():
    decoder = files.Decoder(act)
    decoder.kill()
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="could not start"):
        decoder(*items_named(["hang"]))
    assert time.monotonic() - start < files._HARD_SECONDS / 4
    decoder.process.join(60)
    assert decoder.process.exitcode == -signal.SIGKILL
    decoder.stop()


def test_decoders_import_little():
    ((_, names),) = files.decode_in_parallel(module_names, items_named(["x"]), 1)
    assert "flowvid.decoding" in names.split()
    assert not {"tensorflow", "tensorflow_datasets", "jax"} & set(names.split())


def test_a_crash_ends_no_worker_of_beam():
    from data_builders.beam_decoding import Decode  # here: other processes import this file

    crash, fine = items_named(["crash", "fine"])
    step = Decode(act)
    step.setup()
    assert list(step.process(crash)) == [(crash, "the decoder crashed")]
    ((item, frames),) = step.process(fine)
    assert (item, frames.max()) == (fine, 4)
    pid = step.decoder.process.pid
    step.teardown()
    assert not is_running(pid)


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_decoders_end_with_the_process_that_started_them(tmp_path, kill):
    code = (
        "import functools, sys, test_files\n"
        "from data_builders import files\n"
        "decode = functools.partial(test_files.note_and_hang, sys.argv[1])\n"
        "list(files.decode_in_parallel(decode, test_files.items_named(range(9)), 2))"
    )
    environment = os.environ | {"PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    parent = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    assert wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    pids = [path.name.split()[1] for path in tmp_path.iterdir()]
    assert all(is_running(pid) for pid in pids)
    parent.send_signal(kill)  # the parent alone
    parent.wait(timeout=30)
    assert wait_until(lambda: not any(is_running(pid) for pid in pids), seconds=10)


# One item.


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
    refusal = "a symbolic link that leads out of the data set's folder"
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
    np.testing.assert_array_equal(decode_path(root, root / "a.PNG"), clip[1:2])
    zipped = functools.partial(decode_path, root, root / "all.zip")
    np.testing.assert_array_equal(zipped(member="in/clip.mp4"), clip)
    np.testing.assert_array_equal(zipped(member="in/a.png"), clip[1:2])
    assert "in/no.mp4" in zipped(member="in/no.mp4")


# Listing.


def test_positions_never_change():
    # printf '0/zooming/a.mp4' | sha256sum begins with da1fc42f2381, with 1 with ad3974050c46.
    assert files.position("zooming/a.mp4") == 0xDA1FC42F2381 / 2**48
    assert files.position("zooming/a.mp4", seed=1) == 0xAD3974050C46 / 2**48


def test_positions_are_spread_evenly():
    counts, _ = np.histogram([files.position(str(i)) for i in range(10_000)], 10, (0, 1))
    assert counts.sum() == 10_000
    assert np.abs(counts - 1000).max() < 150  # 5 standard deviations


def test_the_order_hangs_on_ids_alone():
    items = items_named(range(200))
    order = [item.id for item in files.in_order(items)]
    assert sorted(order) == sorted(item.id for item in items) != order
    assert [item.id for item in files.in_order(items[::-1])] == order
    more = [item.id for item in files.in_order(items + items_named(range(200, 300)))]
    assert [name for name in more if int(name) < 200] == order


def test_repeats_are_marked_but_the_first():
    a, b = items_named("ab")
    again = a._replace(label="other")
    listed = files.in_order([a, b, again, again])
    assert [item.reason for item in listed if item.id == "a"] == ["", *["listed before"] * 2]
    assert [item for item in listed if not item.reason and item.id == "a"] == [a]
    assert [item for item in listed if item.id == "b"] == [b]


@pytest.mark.parametrize("name", ["plain", "ünï 🎬", "line\nbreak"])
def test_text_is_printable_as_it_is(name):
    assert files.printable(name) == name


def test_bytes_that_are_no_text_are_written_out():
    name = os.fsdecode(b"caf\xe9.mp4")
    assert files.printable(name) == "caf\\udce9.mp4"
    files.printable(name).encode()


def test_files_are_found_by_suffix_sorted_and_without_hidden_ones(tmp_path):
    for name in ("b/x.mp4", "a/y.MP4", "a/c/z.mkv", "w.mp4", "a/x.txt", "a/mp4", ".h/x.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / ".hidden.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "around").symlink_to(tmp_path)  # no loop
    found = list(files.files_below(epath.Path(tmp_path), frozenset({".mp4", ".mkv"})))
    assert found == ["w.mp4", "a/y.MP4", "a/c/z.mkv", "b/x.mp4"]
