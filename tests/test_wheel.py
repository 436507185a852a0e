"""The built wheel has all that flowvid needs: it is used from an empty folder, without this one."""

import ast
import configparser
import json
import re
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from trained_by_command import train_args

from flowvid.data import media

pytest_plugins = ["trained_by_command"]

ROOT = Path(__file__).parents[1]
PACKAGES = ("flowvid", "experiments", "data_builders")
# All builders in one process: TFDS takes seconds to import.
DESCRIBE = """
import importlib, json, sys
modules = [f"data_builders.{name}.{name}_dataset_builder" for name in sys.argv[1:]]
builders = [importlib.import_module(module).Builder for module in modules]
found = [builder.get_metadata().description for builder in builders]
print(json.dumps(dict(zip(sys.argv[1:], found, strict=True))))
"""


@pytest.fixture(scope="module")
def run_installed(tmp_path_factory):
    """A function that runs a module of the installed wheel in an empty folder.

    The environment has the wheel and, for everything else, the packages of this one.
    """
    folder = tmp_path_factory.mktemp("wheel")
    wheel = ("wheel", "--no-deps", "--no-build-isolation", "--quiet", f"--wheel-dir={folder}")
    source = folder / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    subprocess.run([sys.executable, "-m", "pip", *wheel, str(source)], check=True)
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    places = sysconfig.get_paths("venv", vars={"base": str(folder / "venv")})["purelib"]
    installed = ("install", "--no-deps", "--quiet", *folder.glob("*.whl"))
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, *map(str, installed)], check=True)
    others = Path(places) / "others.pth"
    others.write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    empty = folder / "empty"
    empty.mkdir()

    def run(*args):
        done = subprocess.run(
            [python, *map(str, args)], cwd=empty, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(places) in run("-c", "import flowvid; print(flowvid.__file__)")
    return run


def test_it_trains_on_clips_samples_and_reports(run_installed, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(12):
        for label in ("a", "b"):
            clip = tmp_path / "clips" / label / f"{number}.mp4"
            media.write_video(clip, rng.integers(0, 256, (5, 32, 32, 3), np.uint8), scale=1)
    workdir = tmp_path / "run"
    changes = {"dataset": tmp_path / "clips", "num_steps": 1, "workdir": workdir}
    printed = run_installed("-m", "flowvid.train", *train_args(tmp_path / "records", **changes))
    assert "is trained to step 1" in printed
    run_installed("-m", "flowvid.sample", f"--workdir={workdir}", "--num_videos=2")
    assert (workdir / "samples" / "samples.png").exists()
    sizes = ("--samples=2", "--continued=0", "--sweep=1")
    run_installed("-m", "experiments.report", f"--workdir={workdir}", *sizes)
    assert "<html" in (workdir / "report.html").read_text(encoding="utf-8")


def test_builders_describe_themselves(run_installed):
    """TFDS reads README.md, TAGS.txt and CITATIONS.bib beside a builder when it is made."""
    folders = sorted(path.name for path in (ROOT / "data_builders").iterdir() if path.is_dir())
    names = [name for name in folders if not name.startswith("_")]
    descriptions = json.loads(run_installed("-c", DESCRIBE, *names))
    assert list(descriptions) == names
    assert all(len(description) > 20 for description in descriptions.values()), descriptions


def test_all_that_is_imported_is_declared():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    wanted = [settings["options"]["install_requires"], *settings["options.extras_require"].values()]
    declared = {
        re.split(r"[\[;<>=! ]", line.strip())[0].lower().replace("_", "-")
        for line in "\n".join(wanted).splitlines()
    }
    owners = metadata.packages_distributions()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            if file.name.endswith("_test.py"):
                continue
            for name in imported(file) - set(PACKAGES) - sys.stdlib_module_names:
                found = {owner.lower().replace("_", "-") for owner in owners.get(name, [name])}
                assert found & declared, f"{file} imports {name}, which setup.cfg does not name"


def imported(file):
    """The top-level names of all that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module).split(".")[0])
    return names
