"""`preview` of a folder of files says which are used, skipped and ignored before it decodes any."""

import re

import pytest
from command_line import assert_one_line
from footage import touch, write_clip

from data_builders.video_folder import file_counts, folder
from flowvid import paths

pytest_plugins = ["command_line", "footage"]


def test_files_are_counted_before_anything_is_decoded(tmp_path, call, no_decoding, capsys):
    touch(tmp_path / "clips", "run/1.gif", "walk/2.gif", "walk/3.png")
    no_decoding()
    with pytest.raises(AssertionError, match="decoded again"):
        call("preview", f"--dataset={tmp_path / 'clips'}", f"--data_dir={tmp_path / 'data'}")
    table = capsys.readouterr().out.split("\nPreparing ")[0]
    assert table.startswith(f"Files in {tmp_path / 'clips'}:\n  .gif              2  used\n")
    assert "  .png              1  ignored: an image beside clips" in table


def test_folders_that_cannot_be_used_say_what_they_hold(tmp_path, call):
    touch(tmp_path, "run/1.doc", "run/2.doc")
    result = call("preview", f"--dataset={tmp_path}", f"--data_dir={tmp_path / 'data'}")
    expected = "run/1.doc and 1 more (neither a clip nor an image by its ending)"
    assert_one_line(result, f"holds no clips and no images; it holds {expected}. Expected are")


def test_labels_that_look_alike_are_told_apart(tmp_path, call, in_process):
    for label in ("caf\u00e9", "cafe\u0301"):
        for name in "ab":
            write_clip(tmp_path / "clips" / label / f"{name}.mkv", 90)
    code, out, err = call(
        "preview",
        *(f"--dataset={tmp_path / 'clips'}", f"--data_dir={tmp_path / 'data'}"),
        *("--num_frames=4", "--image_size=8", f"--out={tmp_path / 'out'}"),
    )
    assert code == 0, err
    counts = dict(line.split() for line in out.splitlines() if line.startswith("  caf"))
    assert counts.keys() == {"caf\\xe9", "cafe\\u0301"}


@pytest.mark.parametrize("given", ["", "--out=.", "--out=walk"])
def test_previews_do_not_become_data(tmp_path, call, in_process, monkeypatch, given):
    """As when `preview --dataset=.` runs twice."""
    for name in ("run/1.mkv", "run/2.mkv", "walk/3.mkv"):
        write_clip(tmp_path / "clips" / name, 90)
    monkeypatch.chdir(tmp_path / "clips")
    sizes = ("--dataset=.", f"--data_dir={tmp_path / 'data'}", "--num_frames=4", "--image_size=8")
    outputs = [call("preview", *sizes, *given.split()) for _ in range(2)]
    for code, out, err in outputs:
        assert code == 0, err
        assert "2 clips of 4 frames" in out
        assert "\n  preview" not in out
        assert re.search(r"\.mkv +3  used\n", out)
    expected = {
        "": "  folder            1  ignored: written by flowvid (preview/clips/)",
        "--out=.": "  .gif              1  ignored: written by flowvid (samples.gif)",
        "--out=walk": "  .gif              1  ignored: written by flowvid (walk/samples.gif)",
    }
    assert expected[given] in outputs[1][1]


def test_the_table_names_endings_treatments_and_examples(tmp_path):
    touch(tmp_path, *(f"run/{i}.png" for i in range(18)), "run/a.gif", "walk/b.GIF", "walk/c.3gp")
    touch(tmp_path, "stray.ts", "run/notes", "run/.DS_Store", "x/y.gif")
    (tmp_path / "x" / paths.MARKER).touch()
    (tmp_path / "linked").symlink_to("/")
    table = file_counts.describe(folder.list_folder(tmp_path))
    assert [line.split(maxsplit=2) for line in table.splitlines()] == [
        [".3gp", "1", "used"],
        [".gif", "2", "used"],
        [
            ".ts",
            "1",
            "skipped: stands beside the folders of labels: move it into one (stray.ts)",
        ],
        [
            ".png",
            "18",
            "ignored: an image beside clips: images are used where there are no clips "
            "(run/0.png and 17 more)",
        ],
        [
            "folder",
            "1",
            "ignored: a symbolic link that leads out of the dataset's folder (linked/)",
        ],
        ["folder", "1", "ignored: written by flowvid (x/)"],
        ["no", "ending", "1  ignored: hidden (run/.DS_Store)"],
        ["no", "ending", "1  ignored: neither a clip nor an image by its ending (run/notes)"],
    ]
