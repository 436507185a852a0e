"""Names of datasets that are paths: absolute in new runs, found again for old ones."""

import pytest

from flowvid.config import dataset_names


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders `home/clips` and `home/project/clips`; the current folder is `home/project`."""
    for name in ("home/clips", "home/project/clips", "elsewhere/clips"):
        (tmp_path / name).mkdir(parents=True)
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


# The saved name, the folder of the run, and what the name stands for.
SAVED = [
    ("clips", "home/project/runs/r", "home/project/clips"),
    ("./clips", "home/project/runs/r", "home/project/clips"),
    ("clips", "home/runs/r", "home/clips"),
    ("../clips", "home/project/runs", "home/project/clips"),
    ("clips", "home/clips/run", "home/clips"),  # inside it
    ("clips", "other/r", "other/clips"),  # missing there; those of the current folder are others
    ("./gone", "home/r", "home/gone"),
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


@pytest.mark.parametrize("name", ["moving_shapes", "mnist", "~/clips", "/data/clips", ""])
def test_names_and_absolute_paths_of_runs_stay(places, capsys, name):
    saved = {"dataset": name, "data_dir": "/data"}
    assert dataset_names.of_run(saved, places / "home/r") == saved
    assert capsys.readouterr().out == ""


def test_the_folder_of_prepared_data_is_found_beside_the_run(places):
    (places / "home/data").mkdir()
    for saved, expected in (("data", "home/data"), ("gone", "home/project/gone")):
        found = dataset_names.of_run({"data_dir": saved}, places / "home/project/r")
        assert found["data_dir"] == str(places / expected)
