"""Paths that users give: home folders, caches, and folders that flowvid writes."""

import os
import pwd
import tempfile
from pathlib import Path

import pytest
from absl import flags

from flowvid import fields, paths
from flowvid.data import catalog
from flowvid.errors import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home folder of its own; nothing is remembered between tests."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    paths.cache_folder.cache_clear()
    yield tmp_path / "home"
    paths.cache_folder.cache_clear()


@pytest.fixture
def nobody(monkeypatch):
    """No HOME and no entry in passwd, as in some containers."""
    monkeypatch.delenv("HOME")

    def unknown(user):
        raise KeyError(user)

    monkeypatch.setattr(pwd, "getpwuid", unknown)


# Home folders.


def test_home_folders_are_expanded(home):
    assert paths.expand("~/x") == home / "x"
    assert paths.expand("~") == home
    assert paths.expand("a/~/b") == Path("a/~/b")
    assert paths.expand("~no such user/x") == Path("~no such user/x")
    assert paths.expand(Path("~/x")) == home / "x"


def test_flags_of_paths_are_expanded(home):
    values = flags.FlagValues()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flags, "FLAGS", values)
        parser, serializer = fields._PathParser(), flags.ArgumentSerializer()
        flags.DEFINE(parser, "out", "~/default", "", values, serializer)
        flags.DEFINE(parser, "clip", None, "", values, serializer)
    values(["program"])
    assert (values.out, values.clip) == (home / "default", None)
    values(["program", "--out=~/x y", "--clip", "~/z.mp4"])
    assert (values.out, values.clip) == (home / "x y", home / "z.mp4")


def test_the_cache_is_in_the_home_folder(home, monkeypatch, capsys):
    assert paths.cache_folder() == home / ".cache"
    paths.cache_folder.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "other"))
    assert paths.cache_folder() == home / "other"
    assert capsys.readouterr() == ("", "")


def test_without_a_home_folder_a_temporary_one_is_used(nobody, capsys):
    temporary = Path(tempfile.gettempdir()) / f"flowvid-{os.getuid()}"
    assert paths.cache_folder() == temporary
    assert paths.cache_folder() == temporary
    assert capsys.readouterr().err == (
        f"There is no home folder that can be written to, so {temporary} holds prepared datasets "
        "and compiled programs.\n"
    )
    assert catalog._data_dir(None) == temporary / "tensorflow_datasets"


def test_a_home_folder_that_cannot_be_written_to_is_none(home, capsys):
    home.write_text("a file")
    assert paths.cache_folder() == Path(tempfile.gettempdir()) / f"flowvid-{os.getuid()}"
    assert "no home folder that can be written to" in capsys.readouterr().err


def test_prepared_datasets_are_found_where_the_home_folder_is_read_only(home, monkeypatch):
    (home / "tensorflow_datasets").mkdir(parents=True)
    monkeypatch.setattr(paths, "is_usable", lambda folder: False)
    assert catalog._data_dir(None) == home / "tensorflow_datasets"
    assert catalog._data_dir("~/x") == home / "x"


# Folders that flowvid writes.


def test_a_new_folder_is_marked(tmp_path):
    new, empty = tmp_path / "a" / "new", tmp_path / "empty"
    empty.mkdir()
    for folder in (new, empty):
        assert not paths.is_output(folder)
        assert paths.output_folder(folder, "") == folder
        assert paths.is_output(folder)
        assert [path.name for path in folder.iterdir()] == [paths.MARKER]
        paths.output_folder(folder, "")  # as when a run is resumed


def test_a_folder_with_files_is_the_users(tmp_path):
    (tmp_path / "clip.mp4").touch()
    for names in (("samples.png", "000.gif"), ("000.gif", "001.gif")):
        paths.output_folder(tmp_path, "")
        paths.note_files(tmp_path, names)
        for name in names:
            (tmp_path / name).touch()
        assert not paths.is_output(tmp_path)
    listed = (tmp_path / paths.NOTE).read_text().splitlines()
    assert [line for line in listed if line[0] != "#"] == ["samples.png", "000.gif", "001.gif"]
    (tmp_path / "clip.mp4").unlink()
    assert paths.is_output(tmp_path)


def test_in_a_folder_of_its_own_flowvid_notes_nothing(tmp_path):
    for name, made in (("new", ()), ("earlier run", ("config.json", "checkpoints"))):
        for file in made:
            (tmp_path / name / file).mkdir(parents=True)
        paths.output_folder(tmp_path / name, "")
        paths.note_files(tmp_path / name, ["000.gif"])
        assert not (tmp_path / name / paths.NOTE).exists()


def test_a_run_among_other_files_leaves_them_to_the_user(tmp_path):
    (tmp_path / "clip.mp4").touch()
    paths.output_folder(tmp_path, "")
    for name in ("config.json", "checkpoints"):
        (tmp_path / name).mkdir()
    assert not paths.is_output(tmp_path)


def test_what_is_no_folder_is_no_output(tmp_path):
    assert not paths.is_output(tmp_path / "missing")
    assert not paths.is_output(tmp_path)


FILES = {
    "a run": (("config.json", "checkpoints/1"), True),
    "a preview": (("summary.json", "samples.png"), True),
    "a preview with clips": (("summary.json", "samples.png", "mine.mp4"), False),
    "a run's name alone": (("config.json", "clip.mp4"), False),
    "a picture alone": (("samples.png",), False),
    "clips": (("a.mp4", "b/c.mp4"), False),
}


@pytest.mark.parametrize("case", FILES)
def test_output_of_earlier_versions_is_known_by_its_files(tmp_path, case):
    names, expected = FILES[case]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert paths.is_output(tmp_path) is expected


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=r"cannot be written to \(.*\): use another"):
            paths.output_folder(place, "use another --out")

    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(ConfigError, match=r"cannot be written to \(Permission denied\): use --out"):
        paths.output_folder(tmp_path / "new", "use --out")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file"
    with paths.whole_file(path) as file:
        file.write(b"first")
        assert not path.exists()
    assert path.read_bytes() == b"first"
    with pytest.raises(KeyboardInterrupt), paths.whole_file(path) as file:
        file.write(b"second")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"first"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
    with pytest.raises(OSError, match="file"), paths.whole_file(path / "below"):
        raise AssertionError("a file has no files below it")
