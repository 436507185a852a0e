"""Entry points in real shells: other folders, odd names, closed pipes, poor terminals."""

import json
import subprocess
import sys

import pytest
from command_line import ROOT, assert_one_line
from footage import write_clip

from flowvid import paths

pytest_plugins = ["command_line", "footage"]

SIZES = ("--num_frames=4", "--image_size=8")
MODEL = ("--preset=paper_small", "--levels=1", "--head_steps=1", "--tail_steps=1", "--width=8")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with clips, which is the current folder and the home folder."""
    for name in ("😀/1.mkv", "😀/2.mkv", "run/3.mkv", "run/4.mkv", "run/5.mkv"):
        write_clip(tmp_path / "my project/clips" / name, 90)
    monkeypatch.chdir(tmp_path / "my project")
    monkeypatch.setenv("HOME", str(tmp_path / "my project"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "my project"


@pytest.fixture
def run(project, call, in_process):
    """A run of the variant that is not trained, made with relative paths; what was printed."""
    code, out, err = call(
        "train", "--variant=init", "--dataset=clips", "--workdir=~/a run", *SIZES, *MODEL,
        "--batch_size=2",
    )  # fmt: skip
    assert code == 0, err
    return out


def test_a_run_is_used_from_any_folder(project, run, call, in_process, tmp_path, monkeypatch):
    assert json.loads((project / "a run/config.json").read_text())["dataset"] == f"{project}/clips"
    assert paths.is_output(project / "a run")
    assert "  python -m flowvid.evaluate --workdir='" in run

    write_clip(tmp_path / "elsewhere/clips/other/1.mkv", 200)
    monkeypatch.chdir(tmp_path / "elsewhere")
    evaluate = ("evaluate", "--workdir=../my project/a run", "--metrics=5-bit", "--noise_draws=1")
    code, out, err = call(*evaluate)
    assert code == 0, err
    assert json.loads((project / "a run/evaluation.json").read_text())["dataset"] == (
        f"{project}/clips"
    )

    config = project / "a run/config.json"  # as earlier versions wrote it
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dataset": "clips"}))
    code, out, err = call(*evaluate, "--out=~/report")
    assert code == 0, err
    assert f"--dataset=clips, a relative path: taken as {project}/clips." in out
    for name in ("evaluation.json", "evaluation.npz"):
        assert (project / "report" / name).exists()


def test_what_train_and_sample_wrote_is_no_data(project, run, call, in_process):
    code, _, err = call("sample", "--workdir=a run", "--num_videos=1", "--num_frames=2")
    assert code == 0, err
    code, out, err = call("preview", "--dataset=.", *SIZES, "--out=~/preview")
    assert code == 0, err
    assert "1  ignored: written by flowvid (a run/)" in out
    assert "clips" not in out.split("split train")[1].split("Frames of")[0].replace("clips of", "")


def test_a_run_that_may_only_be_read_is_scored_elsewhere(
    project, run, call, in_process, monkeypatch
):
    is_first, make = [], paths.tempfile.TemporaryFile

    def refuse(**options):
        if str(options.get("dir")).endswith("a run"):
            is_first.append(True)
            raise PermissionError(13, "Permission denied")
        return make(**options)

    monkeypatch.setattr(paths.tempfile, "TemporaryFile", refuse)
    result = call("evaluate", "--workdir=a run")
    assert is_first
    assert_one_line(result, "a run cannot be written to (Permission denied): use --out=<another")
    assert not (project / "a run/unfinished_evaluation").exists()


def shell(command, **environment):
    """Runs a command line in bash, where $PYTHON runs Python; its code, output and errors."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        text=True,
        env=paths.os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)} | environment,
    )
    return done.returncode, done.stdout, done.stderr


PRINT = """
import contextlib
import os
import sys
from flowvid import cli
from tqdm import tqdm

def main():
    data = sys.argv[0] + ".data"
    with open(data, "w"), contextlib.suppress(OSError):
        os.write(2, b"as XLA does")
    assert os.path.getsize(data) == 0
    for _ in tqdm(range(2)):
        pass
    for line in range(2000):
        print("label 😀", line, flush=True)
    print("café", file=sys.stderr)
    open(sys.argv[0] + ".done", "w").close()

cli.run(main)
"""
SHELLS = {
    "ascii": ("$PYTHON $PROGRAM", {"PYTHONIOENCODING": "ascii"}),
    "the C locale": ("$PYTHON $PROGRAM", {"LC_ALL": "C", "PYTHONUTF8": "0"}),
    "a pipe that closes": ("$PYTHON $PROGRAM | true", {}),
    "a pipe that closes on errors, too": ("$PYTHON $PROGRAM 2>&1 | true", {}),
    "a full disk": ("$PYTHON $PROGRAM > /dev/full", {}),
    "a full disk of errors": ("$PYTHON $PROGRAM 2> /dev/full", {}),
    "closed output": ("$PYTHON $PROGRAM >&-", {}),
    "closed errors": ("$PYTHON $PROGRAM 2>&-", {}),
    "everything closed": ("$PYTHON $PROGRAM <&- >&- 2>&-", {}),
    "help on a full disk": ("$PYTHON $PROGRAM --helpfull > /dev/full && touch $PROGRAM.done", {}),
}


@pytest.mark.parametrize("case", SHELLS)
def test_output_never_ends_a_program(tmp_path, case):
    program = tmp_path / "program.py"
    program.write_text(PRINT)
    command, environment = SHELLS[case]
    code, out, err = shell(command, PROGRAM=str(program), **environment)
    assert code == 0, err
    assert "Traceback" not in err
    assert "Exception" not in err
    assert (tmp_path / "program.py.done").exists()
    if case == "ascii":
        assert out.startswith("label \\U0001f600 0\n")
        assert "caf\\xe9" in err


def test_labels_that_a_terminal_does_not_know_are_escaped(project, tmp_path):
    command = f"$PYTHON -m flowvid.preview --dataset=clips {' '.join(SIZES)}"
    code, out, err = shell(command, PYTHONIOENCODING="ascii")
    assert code == 0, err
    assert "  \\U0001f600" in out


def test_labels_are_the_same_in_the_c_locale(project, tmp_path):
    command = f"$PYTHON -m flowvid.preview --dataset=clips {' '.join(SIZES)}"
    code, _, err = shell(command, LC_ALL="C", PYTHONUTF8="0")
    assert code == 0, err
    (found,) = (tmp_path / "data").glob("**/label.labels.txt")
    assert found.read_text(encoding="utf-8").split() == ["run", "😀"]


def test_paths_in_hints_are_quoted(project, call, in_process):
    for program in ("evaluate", "sample", "gan.sample"):
        code, _, err = call(program, "--workdir=no run")
        assert code == 1
        assert "--workdir='" in err
        assert "no run'`" in err


def test_entry_points_can_be_imported_together():
    names = ("train", "evaluate", "sample", "preview", "gan.train", "gan.sample")
    program = "; ".join(f"import flowvid.{name}" for name in names)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
