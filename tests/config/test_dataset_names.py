"""Names of datasets that are paths: absolute in new runs, found again for old ones."""

import importlib.machinery
import importlib.util
import os
from pathlib import Path

import pytest

from flowvid.config import dataset_names


@pytest.fixture(autouse=True)
def unsaid():
    """What is said once per process is said once per test."""
    dataset_names.say_once.cache_clear()


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders `home/clips` and `home/project/clips`; the current folder is `home/project`.

    No folder around the tests' own has the name of `home/project/only in this test`.
    """
    for name in ("home/clips", "home/project/clips", "home/project/only in this test"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "elsewhere/clips").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home/project")
    return tmp_path


GIVEN = {
    "clips": "{home}/project/clips",
    "./clips": "{home}/project/clips",
    "../clips": "{home}/clips",
    "~/clips": "{home}/clips",
    "/clips": "/clips",
    "missing/": "{home}/project/missing",
    "./missing": "{home}/project/missing",
    "missing": "missing",
    "moving_shapes": "moving_shapes",
    "moments_in_time/64x64_30f": "moments_in_time/64x64_30f",
    "mnist": "mnist",
    "": "",
}


@pytest.mark.parametrize("name", GIVEN)
def test_paths_become_absolute_and_names_stay(places, name):
    expected = GIVEN[name].format(home=places / "home")
    given = {"dataset": name, "data_dir": "data", "width": 8}
    assert dataset_names.absolute(given) == {
        "dataset": expected,
        "data_dir": str(places / "home/project/data"),
        "width": 8,
    }


def test_what_is_not_given_stays_so(places):
    assert dataset_names.absolute({"width": 8}) == {"width": 8}
    assert dataset_names.absolute({"data_dir": None}) == {"data_dir": None}


# Names of datasets beside folders of these names.


@pytest.mark.parametrize("name", ["mnist", "lfw", "mnist/3.0.1", "moving_shapes", "celeb_a"])
def test_the_name_of_a_dataset_is_no_folder_and_says_so(places, capsys, name):
    (places / "home/project" / name).mkdir(parents=True)
    for _ in range(2):
        assert dataset_names.absolute({"dataset": name}) == {"dataset": name}
    assert capsys.readouterr().out == (
        f"--dataset={name} is the dataset of that name, not the folder: --dataset=./{name} is the "
        "folder.\n"
    )
    for path in (f"./{name}", f"{name}/"):
        expected = {"dataset": str(places / "home/project" / name)}
        assert dataset_names.absolute({"dataset": path}) == expected
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("made", [None, ".flowvid-output", "run 1/.flowvid-output"])
def test_of_output_in_a_folder_of_that_name_nothing_is_said(places, capsys, made):
    if made:
        (places / "home/project/mnist" / made).parent.mkdir(parents=True)
        (places / "home/project/mnist" / made).touch()
    assert not dataset_names.is_path("mnist")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("found", [None, "a package"])
def test_without_tfds_only_the_known_names_are_those_of_datasets(monkeypatch, found):
    spec = importlib.machinery.ModuleSpec("tensorflow_datasets", None) if found else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert dataset_names.is_dataset("moving_shapes")
    assert not dataset_names.is_dataset("mnist")


# Settings of old runs.

# The saved name, the folder of the run, and what the name stands for.
SAVED = [
    ("clips", "home/project/runs/r", "home/project/clips"),
    ("./clips", "home/project/runs/r", "home/project/clips"),
    ("clips", "home/runs/r", "home/clips"),
    ("../clips", "home/project/runs", "home/project/clips"),
    ("clips", "home/clips/run", "home/clips"),  # inside it
    # Missing there; that of the current folder is another one.
    ("only in this test", "other/r", "other/only in this test"),
    ("./nowhere in this test", "home/r", "home/nowhere in this test"),
]


@pytest.mark.parametrize(("name", "workdir", "expected"), SAVED)
def test_relative_paths_of_old_runs_are_found_beside_the_run(
    places, capsys, name, workdir, expected
):
    workdir = places / workdir
    workdir.mkdir(parents=True)
    saved = {"dataset": name, "data_dir": None, "width": 8}
    found = dataset_names.of_run(saved, workdir)
    assert found == saved | {"dataset": str(places / expected)}
    assert capsys.readouterr().out == (
        f"The run in {workdir} has --dataset={name}, a relative path: taken as "
        f"{places / expected}.\n"
    )
    dataset_names.of_run(saved, workdir)
    assert capsys.readouterr().out == ""  # said once


# The saved path, and what it stands for: the run is home/project/runs/r, typed in home/project.
AMONG_OUTPUT = {
    ".": "home/project",
    "samples": "home/project/samples",
    "./samples": "home/project/samples",
    "previews": "home/project/previews",
    "preview/clips": "home/project/runs/preview/clips",  # nothing but output, and nothing better
    "r/../clips": "home/project/clips",
}


@pytest.mark.parametrize("key", ["dataset", "data_dir"])
@pytest.mark.parametrize("saved", AMONG_OUTPUT)
def test_what_flowvid_wrote_is_not_the_data_of_an_old_run(places, capsys, saved, key):
    project = places / "home/project"
    run = project / "runs/r"
    for name in ("samples/walk", "runs/r/checkpoints", "runs/r/samples", "runs/r/previews"):
        (project / name).mkdir(parents=True)
    for name in ("config.json", "samples/samples.png", "previews/step000010.png"):
        (run / name).touch()
    (project / "preview/clips").mkdir(parents=True)
    (project / "preview/clips/.flowvid-output").touch()
    (project / "previews").mkdir()
    (project / "runs/latest").symlink_to("r")
    found = dataset_names.of_run({key: saved}, run)[key]
    assert found == str(places / AMONG_OUTPUT[saved])
    assert capsys.readouterr().out == (
        f"The run in {run} has --{key}={saved}, a relative path: taken as {found}.\n"
    )


def test_a_run_inside_its_dataset_does_not_hide_it(places):
    run = places / "home/project/clips/runs/r"
    for name in ("runs/r/checkpoints", "walk"):
        (places / "home/project/clips" / name).mkdir(parents=True)
    (run / "config.json").touch()
    expected = {"dataset": str(places / "home/project/clips")}
    assert dataset_names.of_run({"dataset": "."}, run) == expected


def test_a_folder_that_cannot_be_read_is_not_taken_for_output(places, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    found = dataset_names.of_run({"dataset": "clips"}, places / "home/project/r")
    assert found == {"dataset": str(places / "home/project/clips")}


@pytest.mark.parametrize("name", ["mnist", "lfw", "my_set"])
def test_the_dataset_of_a_run_is_no_folder_beside_it(places, capsys, name):
    (places / "data/my_set").mkdir(parents=True)
    folder = places / "home" / name
    folder.mkdir()
    saved = {"dataset": name, "data_dir": str(places / "data")}
    for run in (places / "home/r", folder / "r"):
        assert dataset_names.of_run(saved, run) == saved
        assert capsys.readouterr().out == (
            f"The run in {run} has --dataset={name}: not taken as {folder}.\n"
        )


@pytest.mark.parametrize("name", ["moving_shapes", "mnist", "~/clips", "/data/clips", ""])
def test_names_and_absolute_paths_of_runs_stay(places, capsys, name):
    saved = {"dataset": name, "data_dir": "/data"}
    assert dataset_names.of_run(saved, places / "home/r") == saved
    assert capsys.readouterr().out == ""


def test_the_folder_of_prepared_data_is_found_beside_the_run(places):
    (places / "home/data").mkdir()
    for saved, expected in (
        ("data", "home/data"),
        ("nowhere in this test", "home/project/nowhere in this test"),
    ):
        found = dataset_names.of_run({"data_dir": saved}, places / "home/project/r")
        assert found["data_dir"] == str(places / expected)
