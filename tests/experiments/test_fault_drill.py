"""The fault drill, smaller, on real processes; and it does not hide what fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The other faults are tried, each by itself, in test_interruption, test_checkpoints,
# test_incidents and test_distributed.
TRIED = ("kill2", "poison_row")


def drill(*flags, env=None):
    return subprocess.run(
        [sys.executable, "-m", "experiments.fault_drill", *map(str, flags)],
        cwd=ROOT,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def test_every_row_passes(tmp_path):
    out = tmp_path / "drill.json"
    result = drill("--kills=1", f"--only={','.join(TRIED)}", f"--out={out}")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    assert set(rows) == set(TRIED)
    for row in rows.values():
        assert row["result"] == "pass", row
        assert row["fault"].split()[0] in result.stdout
    assert "same bits after 1 kill;" in rows["kill2"]["observed"]


def test_a_run_that_ends_in_other_bits_fails_the_drill(tmp_path):
    """With checkpoints that come back a little wrong, as a negative control."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'flowvid.train' in sys.orig_argv:\n"
        "    from flowvid import checkpoints\n"
        "    restore = checkpoints.Checkpoints.restore\n"
        "    def wrong(self, *args, **kwargs):\n"
        "        run = restore(self, *args, **kwargs)\n"
        "        return run and run._replace(examples=run.examples + 1)\n"
        "    checkpoints.Checkpoints.restore = wrong\n"
    )
    result = drill(
        "--only=truncated", env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "TMPDIR": str(tmp_path)}
    )
    assert result.returncode == 1, result.stderr
    assert "FAIL" in result.stdout
    assert "Not all is as expected; the runs are kept in" in result.stderr


def test_a_fault_that_there_is_not_is_refused():
    result = drill("--only=kill,flood")
    assert result.returncode == 1
    assert "error: --only=flood is no fault: use some of kill, kill2," in result.stderr


@pytest.mark.parametrize("ranges", ["a", "3:b", ":4"])
def test_what_is_no_range_is_not_poisoned(ranges):
    code = f"from experiments import poisoned_train; poisoned_train.parse(['{ranges}'])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert f"--poison={ranges} is no position" in result.stderr
